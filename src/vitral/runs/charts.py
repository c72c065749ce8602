"""Curves as pieces of SVG, which a page draws in its own colours."""

import math
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["HEIGHT", "WIDTH", "Chart", "Curve", "Line", "chart", "ticks"]

WIDTH, HEIGHT = 480, 240
LEFT, RIGHT, TOP, BOTTOM = 58, 10, 10, 28
"""Room for the numbers around the curves."""

MOST_POINTS = 400
"""A longer curve is drawn through means of neighbouring points."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A quantity over steps."""

    label: str
    kind: str
    """Its class in the page's style, which gives colour and dashes."""
    points: list[tuple[int, float]]


@dataclass(frozen=True, kw_only=True)
class Line:
    """A curve in the picture's coordinates."""

    label: str
    kind: str
    points: list[tuple[float, float]]

    @property
    def path(self) -> str:
        """Its points as SVG's polyline takes them."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.points)


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A picture of curves, all but its colours."""

    title: str
    told: str
    """What it shows, for who does not see it."""
    lines: list[Line]
    across: list[tuple[float, str]]
    """Places and texts of the numbers below."""
    up: list[tuple[float, str]]
    """Those on the left."""


def chart(title: str, curves: list[Curve], *, write: Callable[[float], str]) -> Chart | None:
    """Draws curves that have any points; None where none has.

    Args:
        title: what is drawn.
        curves: of one quantity.
        write: how its values are written.
    """
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return None
    steps = [step for curve in curves for step, _ in curve.points]
    values = [value for curve in curves for _, value in curve.points]
    up, across = ticks(min(0.0, *values), max(values)), ticks(0, max(steps))
    low, high, last = up[0], max(up[-1], *values), max(steps)

    def place(step: int | float, value: int | float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * step / max(last, 1)
        return x, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)

    told = "; ".join(
        f"{curve.label}: {write(curve.points[0][1])} at step {curve.points[0][0]:,}, "
        f"{write(curve.points[-1][1])} at step {curve.points[-1][0]:,}"
        for curve in curves
    )
    lines = [
        Line(label=curve.label, kind=curve.kind, points=[place(*point) for point in thinned(curve.points)])
        for curve in curves
    ]
    return Chart(
        title=title,
        told=told,
        lines=lines,
        across=[(place(step, low)[0], f"{step:,.0f}") for step in across if step <= last],
        up=[(place(0, value)[1], write(value)) for value in up],
    )


def ticks(low: int | float, high: int | float, *, count: int = 4) -> list[float]:
    """About `count` round numbers from `low` or just below up to `high` or just above."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * digit for digit in (1, 2, 5, 10) if power * digit >= rough * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def thinned(points: list[tuple[int, float]]) -> list[tuple[float, float]]:
    """At most `MOST_POINTS` points, each the mean of neighbours."""
    size = -(-len(points) // MOST_POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]
