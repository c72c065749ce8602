"""Plot of `vitral bench`: images per second and latency over the batch size."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from vitral.commands.bench.contenders import Settings
from vitral.commands.bench.measure import Row
from vitral.commands.bench.report import groups, label, title
from vitral.files import font_fallback, printable, write_atomically

__all__ = ["draw_speed"]


@font_fallback()
def draw_speed(rows: Sequence[Row], settings: Settings, path: Path) -> None:
    """Draws a PNG: for each architecture, images per second on the left and the latency of a call on the right.

    The band of the latency reaches from the median to the 95th percentile.

    Raises:
        OSError: the file cannot be written.
    """
    tables = groups(rows)
    figure = Figure(figsize=(12, 4.2 * len(tables)), layout="constrained")
    for axes, group in zip(figure.subplots(len(tables), 2, squeeze=False), tables, strict=True):
        left, right = axes
        _draw(left, right, group)
        left.set_title(printable(title(group, settings)), loc="left", fontsize=10, parse_math=False)
        right.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    write_atomically(path, lambda file: file.write(stream.getvalue()))


def _draw(left: Axes, right: Axes, group: Sequence[Row]) -> None:
    contenders = list({id(row.contender): row.contender for row in group}.values())
    for number, each in enumerate(contenders):
        mine = [row for row in group if row.contender is each]
        sizes = [row.batch_size for row in mine]
        colour = colormaps["tab10"](number % 10)
        style: dict[str, Any] = dict(color=colour, marker="o", markersize=4, linewidth=1.5)
        left.plot(sizes, [row.images_per_second for row in mine], **style)
        medians = [1000 * row.latency.p50 for row in mine]
        name = printable(label(each, group)).replace("$", r"\$")
        right.plot(sizes, medians, label=name, **style)
        right.fill_between(
            sizes, medians, [1000 * row.latency.p95 for row in mine], color=colour, alpha=0.12, linewidth=0
        )
    left.set_ylim(bottom=0)
    right.set_yscale("log")
    right.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    right.yaxis.set_major_formatter(FuncFormatter(lambda milliseconds, _: f"{milliseconds:,g}"))
    right.yaxis.set_minor_formatter(NullFormatter())
    left.set_ylabel("images/s")
    right.set_ylabel("ms a call: median to 95th percentile")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:g}"))
        axes.set_xticks(sorted({row.batch_size for row in group}))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("batch size")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
