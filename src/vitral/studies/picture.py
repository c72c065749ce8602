"""The picture of a study: lines over an axis, or a point for each setting, with the spread over seeds."""

import statistics
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator

from vitral.files import font_fallback
from vitral.inspection.picture import save_figure
from vitral.studies.results import StudyResult
from vitral.studies.study import UNTRAINED

__all__ = ["draw_study"]

OWN, PAPER = "#4c78a8", "#b3372f"

MAX_TICKS = 6
"""Up to so many places on a logarithmic axis are ticks; of more, 1, 2 and 5 times the powers of ten."""

MARKERS = "osD^vP*X"


@font_fallback()
def draw_study(result: StudyResult, folder: Path) -> None:
    """Writes `figure.png` and `figure.svg`.

    Raises:
        OSError: a file cannot be written.
    """
    if any(arm.group for arm in result.arms):
        figure = bars(result)
    else:
        figure = points(result) if result.study.x_label is None else lines(result)
    for suffix in ("png", "svg"):
        save_figure(figure, folder / f"figure.{suffix}")


def lines(result: StudyResult) -> Figure:
    """One line for each `line` of the arms, over `x`; error bars are standard deviations over seeds.

    Accuracies have one panel, of the first metric; speeds and sizes a panel each.
    """
    metrics = [metric for metric in result.study.metrics if metric in UNTRAINED] or result.study.metrics[:1]
    figure = Figure(figsize=(6.4 if len(metrics) == 1 else 10, 4.4), layout="constrained")
    plots = figure.subplots(1, len(metrics), squeeze=False)[0]
    for axes, metric in zip(plots, metrics, strict=True):
        _draw_lines(axes, result, metric)
        axes.set_xlabel(result.study.x_label or "")
        axes.set_ylabel(metric)
        if result.study.log_x:
            axes.set_xscale("log")
            places = sorted({arm.x for arm in result.arms if arm.x is not None})
            few = len(places) <= MAX_TICKS
            axes.xaxis.set_major_locator(FixedLocator(places) if few else LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
            axes.minorticks_off()
        if metric in UNTRAINED:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        else:
            axes.yaxis.set_major_formatter(lambda fraction, _: f"{100 * fraction:g} %")
        _finish(axes, result)
    if len({arm.line for arm in result.arms}) > 1:
        plots[-1].legend(frameon=False, fontsize=9)
    return figure


def _draw_lines(axes: Axes, result: StudyResult, metric: str) -> None:
    values = result.values(metric)
    for index, name in enumerate(dict.fromkeys(arm.line for arm in result.arms)):
        arms = [arm for arm in result.arms if arm.line == name and arm.x is not None and values[arm.name]]
        arms.sort(key=lambda arm: arm.x or 0)
        points = [values[arm.name] for arm in arms]
        axes.errorbar(
            [arm.x or 0 for arm in arms],
            [statistics.fmean(point) for point in points],
            yerr=[_spread(point) for point in points],
            marker=MARKERS[index % len(MARKERS)],
            capsize=3,
            linewidth=1.4,
            label=name,
        )


def bars(result: StudyResult) -> Figure:
    """Groups of bars, one for each line: means over arms with standard deviations over seeds; below, the paper's."""
    own = {line: {group: row for group, row in groups.items() if row} for line, groups in result.bars().items()}
    published = {
        model: {group: [value] for group, value in row.items()} for model, row in result.study.published.items()
    }
    panels = [("here", own), ("paper", published)][: 2 if published else 1]
    figure = Figure(figsize=(7.2, 0.6 + 3.1 * len(panels)), layout="constrained")
    for axes, (title, table) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
        groups = list(dict.fromkeys(group for row in table.values() for group in row))
        width = 0.8 / len(table)
        for index, (line, row) in enumerate(table.items()):
            places = [groups.index(group) - 0.4 + width * (index + 0.5) for group in row]
            heights, spreads = [statistics.fmean(row[group]) for group in row], [_spread(row[group]) for group in row]
            axes.bar(places, heights, width * 0.92, yerr=spreads if any(spreads) else None, capsize=3, label=line)
        axes.set_xticks(range(len(groups)), groups)
        axes.yaxis.set_major_formatter(lambda fraction, _: f"{100 * fraction:g} %")
        _finish(axes, result)
        axes.set_title(f"{result.study.title}: {title}", fontsize=11, loc="left")
        axes.legend(frameon=False, fontsize=9, ncols=len(table), loc="upper center", bbox_to_anchor=(0.5, -0.08))
    return figure


def points(result: StudyResult) -> Figure:
    """One row for each arm: its mean with the standard deviation over seeds; the paper's values in a second panel."""
    arms, metric = result.arms, result.study.metrics[0]
    values = result.values(metric)
    published = [(row, arm.paper[metric]) for row, arm in enumerate(arms) if metric in arm.paper]
    figure = Figure(figsize=(9.6 if published else 6.4, 1.2 + 0.34 * len(arms)), layout="constrained")
    own, *others = figure.subplots(1, 2 if published else 1, squeeze=False, sharey=True)[0]
    measured = [(row, values[arm.name]) for row, arm in enumerate(arms) if values[arm.name]]
    means, spreads = [statistics.fmean(value) for _, value in measured], [_spread(value) for _, value in measured]
    rows = [row for row, _ in measured]
    own.errorbar(means, rows, xerr=spreads, fmt="o", color=OWN, capsize=3)
    own.set_yticks(range(len(arms)), [arm.name for arm in arms], fontsize=9)
    own.set_ylim(len(arms) - 0.5, -0.5)
    _finish(own, result)
    own.set_xlabel(f"here: {metric}")
    for axes in others:
        axes.plot([value for _, value in published], [row for row, _ in published], "D", color=PAPER)
        axes.set_xlabel(f"paper: {metric}")
        axes.grid(alpha=0.25)
    for axes in (own, *others):
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(lambda fraction, _: f"{100 * fraction:g} %")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _finish(axes: Axes, result: StudyResult) -> None:
    axes.set_title(result.study.title, fontsize=11, loc="left")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _spread(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0
