"""The picture of a comparison: accuracies and their differences with intervals, and the losses on the way."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vitral.evals.paired import Difference
from vitral.files import any_script, printable, write_atomically
from vitral.suites.published import PublishedRow
from vitral.sweeps.compare import Contender

__all__ = ["draw_comparison"]

LONGEST_NAME = 34
"""Characters of a run's name that are drawn, its last."""


@any_script()
def draw_comparison(runs: Sequence[Contender], path: Path, *, known: Sequence[PublishedRow] = ()) -> None:
    """Draws runs into a PNG: those with predictions in rows with their intervals, the training losses of all beside;
    below them what is published, in grey.

    Raises:
        OSError: the file cannot be written.
    """
    colours = [colormaps["tab10" if len(runs) <= 10 else "turbo"](place) for place in _places(len(runs))]
    figure = Figure(figsize=(12, max(3.2, 1.2 + 0.32 * (len(runs) + len(known)))), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _draw_intervals(left, [run.accuracy for run in runs], colours)
    rows = range(len(runs), len(runs) + len(known))
    left.plot([row.accuracy for row in known], rows, "D", color="#888888", markersize=5)
    left.set_title("accuracy", loc="left", fontsize=11)
    names = [printable(str(run.path)) for run in runs] + [row.name for row in known]
    short = [name if len(name) <= LONGEST_NAME else f"…{name[1 - LONGEST_NAME :]}" for name in names]
    left.set_yticks(range(len(names)), short, fontsize=9, parse_math=False)
    left.xaxis.set_major_formatter(lambda share, _: f"{share:.1%}")
    _draw_intervals(middle, [run.difference for run in runs], colours)
    middle.axvline(0, color="#999999", linewidth=1, linestyle="--")
    middle.set_title("difference to the first run, 95 % interval", loc="left", fontsize=11)
    middle.set_yticks(range(len(runs)), [""] * len(runs))
    for axes in (left, middle):
        axes.set_ylim(len(runs) + len(known) - 0.5, -0.5)
    middle.xaxis.set_major_formatter(lambda share, _: f"{100 * share:+.1f}")
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


def _places(count: int) -> list[float] | list[int]:
    """Where in its colour map each run is: a list of ten has numbers, a scale has shares."""
    return list(range(count)) if count <= 10 else [place / (count - 1) for place in range(count)]


def _draw_intervals(axes: Axes, intervals: Sequence[Difference | None], colours: Sequence[object]) -> None:
    """A point and its interval in each row."""
    for row, (found, colour) in enumerate(zip(intervals, colours, strict=True)):
        if found:
            axes.plot([found.low, found.high], [row, row], color=colour, linewidth=2, solid_capstyle="butt")
            axes.plot(found.mean, row, "o", color=colour, markersize=6)
