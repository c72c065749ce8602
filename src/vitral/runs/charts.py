"""Line charts as coordinates for inline SVG.

Not drawn by matplotlib, as `curves.py` is: in the report, the page's style sheet must colour the lines, for light and
dark mode; screen readers need a title and a description; and the page may contain no URLs, which matplotlib's SVG does.
"""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["HEIGHT", "WIDTH", "Chart", "Curve", "Line", "chart", "ticks"]

WIDTH, HEIGHT = 480, 240
LEFT, RIGHT, TOP, BOTTOM = 58, 10, 10, 28
"""Pixels around the plot, for tick labels."""

MAX_POINTS = 400
"""A curve of more points is drawn through means of neighbouring points."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Values over steps."""

    label: str
    kind: str
    """CSS class, which sets colour and dashes."""
    points: list[tuple[int, float]]


@dataclass(frozen=True, kw_only=True)
class Line:
    """A curve in pixels of the picture."""

    label: str
    kind: str
    points: list[tuple[float, float]]

    @property
    def path(self) -> str:
        """The `points` attribute of an SVG polyline."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.points)


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Curves with axes."""

    title: str
    description: str
    """First and last value of each curve, for screen readers."""
    lines: list[Line]
    x_ticks: list[tuple[float, str]]
    """Position and label of each tick."""
    y_ticks: list[tuple[float, str]]


def chart(title: str, curves: list[Curve], *, format_value: Callable[[float], str]) -> Chart | None:
    """Lays out the curves that have points; None if none has.

    Args:
        title: of the chart.
        curves: drawn on the same axes.
        format_value: formats a value of the y axis.
    """
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return None
    steps = [step for curve in curves for step, _ in curve.points]
    values = [value for curve in curves for _, value in curve.points]
    y_values, x_values = ticks(min(0.0, *values), max(values)), ticks(0, max(steps))
    low, high, last = y_values[0], max(y_values[-1], *values), max(steps)

    def to_pixels(step: int | float, value: int | float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * step / max(last, 1)
        return x, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)

    description = "; ".join(
        f"{curve.label}: {format_value(curve.points[0][1])} at step {curve.points[0][0]:,}, "
        f"{format_value(curve.points[-1][1])} at step {curve.points[-1][0]:,}"
        for curve in curves
    )
    lines = [
        Line(label=curve.label, kind=curve.kind, points=[to_pixels(*point) for point in downsample(curve.points)])
        for curve in curves
    ]
    return Chart(
        title=title,
        description=description,
        lines=lines,
        x_ticks=[(to_pixels(step, low)[0], f"{step:,.0f}") for step in x_values if step <= last],
        y_ticks=[(to_pixels(0, value)[1], format_value(value)) for value in y_values],
    )


def ticks(low: int | float, high: int | float, *, count: int = 4) -> list[float]:
    """About `count` + 1 round numbers from at most `low` to at least `high`."""
    # imported here because only the end of a run needs it
    from matplotlib.ticker import MaxNLocator

    high = high if high > low else low + (abs(low) or 1.0)
    return [float(tick) for tick in MaxNLocator(nbins=count, steps=[1, 2, 5, 10]).tick_values(low, high)]


def downsample(points: list[tuple[int, float]]) -> list[tuple[float, float]]:
    """At most `MAX_POINTS` points, each the mean of neighbouring points."""
    size = -(-len(points) // MAX_POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]
