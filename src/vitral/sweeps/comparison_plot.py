"""Plot of a comparison of runs: accuracies and differences with confidence intervals, and training losses."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vitral.evals.paired import Difference
from vitral.files import font_fallback, printable, write_atomically
from vitral.suites.published import PublishedRow
from vitral.sweeps.compare import RunSummary

__all__ = ["draw_comparison"]

MAX_NAME_LENGTH = 34
"""Longer names of runs are shortened to their last characters."""


@font_fallback()
def draw_comparison(runs: Sequence[RunSummary], path: Path, *, published: Sequence[PublishedRow] = ()) -> None:
    """Draws runs into a PNG: one row per run with accuracy, difference and intervals; beside them all training losses.

    Published accuracies are grey rows below the runs. A run without saved predictions has an empty row.

    Raises:
        OSError: the file cannot be written.
    """
    colour_map = colormaps["tab10" if len(runs) <= 10 else "turbo"]
    colours = [colour_map(position) for position in _colour_positions(len(runs))]
    figure = Figure(figsize=(12, max(3.2, 1.2 + 0.32 * (len(runs) + len(published)))), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _draw_intervals(left, [run.accuracy for run in runs], colours)
    rows = range(len(runs), len(runs) + len(published))
    left.plot([row.accuracy for row in published], rows, "D", color="#888888", markersize=5)
    left.set_title("accuracy", loc="left", fontsize=11)
    names = [printable(str(run.path)) for run in runs] + [row.name for row in published]
    short = [name if len(name) <= MAX_NAME_LENGTH else f"…{name[1 - MAX_NAME_LENGTH :]}" for name in names]
    left.set_yticks(range(len(names)), short, fontsize=9, parse_math=False)
    left.xaxis.set_major_formatter(lambda fraction, _: f"{fraction:.1%}")
    _draw_intervals(middle, [run.difference for run in runs], colours)
    middle.axvline(0, color="#999999", linewidth=1, linestyle="--")
    middle.set_title("difference to the first run, 95 % interval", loc="left", fontsize=11)
    middle.set_yticks(range(len(runs)), [""] * len(runs))
    for axes in (left, middle):
        axes.set_ylim(len(runs) + len(published) - 0.5, -0.5)
    middle.xaxis.set_major_formatter(lambda fraction, _: f"{100 * fraction:+.1f}")
    middle.set_xlabel("percentage points")
    for run, colour in zip(runs, colours, strict=True):
        points = [(record["step"], record["train/loss"]) for record in run.records if "train/loss" in record]
        if points:
            right.plot(*zip(*points, strict=True), color=colour, linewidth=1.2)
    right.set_title("training loss", loc="left", fontsize=11)
    right.set_xlabel("step")
    for axes in (left, middle, right):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


def _colour_positions(count: int) -> list[float] | list[int]:
    """Position of each run in its colour map: an index into a list of ten colours, or a number in 0..1."""
    return list(range(count)) if count <= 10 else [index / (count - 1) for index in range(count)]


def _draw_intervals(axes: Axes, intervals: Sequence[Difference | None], colours: Sequence[object]) -> None:
    """A point and its interval in each row that has one."""
    for row, (difference, colour) in enumerate(zip(intervals, colours, strict=True)):
        if difference:
            axes.plot([difference.low, difference.high], [row, row], color=colour, linewidth=2, solid_capstyle="butt")
            axes.plot(difference.mean, row, "o", color=colour, markersize=6)
