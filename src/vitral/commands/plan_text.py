"""Durations and energies in the units that are easiest to read."""

__all__ = ["duration", "energy"]


def duration(hours: float) -> str:
    """A time in seconds, minutes, hours or days."""
    if hours < 1 / 60:
        seconds = hours * 3600
        return f"{seconds:.0f} seconds" if seconds >= 1.5 else "about a second" if seconds > 0.5 else "under a second"
    if hours < 1:
        return f"{hours * 60:.0f} minutes"
    return f"{hours:,.1f} hours" if hours < 72 else f"{hours / 24:,.1f} days"


def energy(kwh: float) -> str:
    """An energy in watt-hours, kilowatt-hours or megawatt-hours."""
    if kwh < 1:
        return f"{1000 * kwh:.3g} Wh"
    return f"{kwh:,.3g} kWh" if kwh < 1000 else f"{kwh / 1000:,.4g} MWh"
