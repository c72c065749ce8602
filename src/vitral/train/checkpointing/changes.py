"""What of a run may change when it goes on, and what is said of it."""

from typing import Any, NamedTuple

from vitral.config import to_dict
from vitral.errors import UserError
from vitral.train.config import RunConfig

__all__ = ["Change", "changes_between"]

AS_BEFORE = (
    *("train.device", "train.compile", "train.parallel", "train.shards", "train.recompute"),
    *("train.evaluate", "train.log", "train.track", "checkpoint", "data.workers"),
)
"""Where and how fast a run computes, what it tells and when it saves: the result is the same but for rounding."""

OTHERWISE = (
    *("train.steps", "train.epochs", "train.accumulate", "train.precision", "train.ema", "train.ema_warmup"),
    *("optim", "schedule", "augment", "objective", "data.on_error"),
)
"""What the steps that are left may learn otherwise than the steps before."""

FIXED = ("optim.name", "optim.momentum_dtype", "augment.repeats", "objective.name")
"""What of the above says what a checkpoint holds, or which sample comes when; as all does that is not above."""

ABOUT = ("out", "command", "changes")
"""What says where a run is and what was typed, and nothing of how it trains."""

ORDER = ("seed", "data", "augment.repeats", "train.batch_size")
"""What decides which sample comes when."""


class Change(NamedTuple):
    """A setting that is not what it was."""

    name: str
    old: Any
    new: Any

    @property
    def counts(self) -> bool:
        """Whether the result is another for it."""
        return not _among(self.name, AS_BEFORE)

    def check(self) -> None:
        """Refuses what would make another run of it.

        Raises:
            UserError: names the setting, what it was and is to be, and the way out.
        """
        on_or_off = self.name == "train.ema" and None in (self.old, self.new)
        allowed = _among(self.name, (*AS_BEFORE, *OTHERWISE)) and not _among(self.name, FIXED) and not on_or_off
        if allowed:
            return
        reason = "samples would come twice or never" if _among(self.name, ORDER) else "it would be another run"
        sparing = ", raise --train.accumulate to save memory" if self.name == "train.batch_size" else ""
        raise UserError(
            f"{self.name} was {self.old} and cannot become {self.new} when a run goes on, as {reason}: "
            f"leave it out{sparing}, or start a new run"
        )

    def told(self, step: int) -> str:
        """One sentence for people and for the run's configuration."""
        return f"{self.name} is {self.new} instead of {self.old} from step {step} on"


def changes_between(before: RunConfig, after: RunConfig) -> list[Change]:
    """What differs, by name.

    Args:
        before: the configuration that the run's checkpoints were made with.
        after: the one it is to go on with.

    Raises:
        UserError: something differs that cannot change.
    """
    classes = before.model.architecture.num_classes
    old, new = (_leaves(to_dict(config.resolved(num_classes=classes))) for config in (before, after))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name) and name not in ABOUT]
    changes = [Change(name, old.get(name), new.get(name)) for name in names]
    for change in changes:
        change.check()
    return changes


def _among(name: str, settings: tuple[str, ...]) -> bool:
    """Whether a setting is one of these, or a part of one."""
    return any(name == setting or name.startswith(f"{setting}.") for setting in settings)


def _leaves(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    """A tree of settings as one table, by names such as `optim.lr`."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _leaves(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
    return found
