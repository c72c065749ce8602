"""`vitral compare`: compares finished runs."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vitral.commands.output import finite, print_json, printable
from vitral.evals.paired import Difference
from vitral.files import as_csv, as_markdown, write_atomically
from vitral.suites.published import PublishedRow, published
from vitral.sweeps.compare import RunSummary, different_settings, summarise_runs

__all__ = ["main"]

SCREEN_METRICS = ("top1", "loss", "knn", "linear", "map", "f1", "r2", "mae")
"""Metrics that fit on the screen; --json and files have all."""

Cells = list[list[str]]


def main(options: argparse.Namespace) -> None:
    """Prints the tables, or with `--json` one object; writes the files of `--out`."""
    runs = summarise_runs(options.runs)
    reference = published(runs[0].config.data.source) if options.published else []
    settings = different_settings([run.config for run in runs])
    if options.json:
        rows = [row(run) for run in runs]
        print_json(
            {
                "baseline": rows[0]["run"],
                "runs": rows,
                "published": [vars(row) for row in reference],
                "settings": settings,
                "files": list(map(str, options.out)),
            }
        )
    else:
        console = Console(highlight=False, markup=False)
        for cells in tables(runs, reference, settings, all_metrics=False):
            console.print(rich_table(cells))
    # last, so that a full disk does not lose the results
    for path in options.out:
        write(path, runs, reference, settings)
        if not options.json:
            print(printable(f"written: {path}"))


def write(
    path: Path, runs: Sequence[RunSummary], reference: Sequence[PublishedRow], settings: dict[str, list[Any]]
) -> None:
    """Writes the comparison in the format of the file's ending."""
    match path.suffix.lower():
        case ".png":
            from vitral.sweeps.comparison_plot import draw_comparison  # here, as Matplotlib takes a second

            draw_comparison(runs, path, published=reference)
            return
        case ".csv":
            text = as_csv(as_rows(runs, reference, settings))
        case _:
            text = "\n".join(map(as_markdown, tables(runs, reference, settings, all_metrics=True)))
    write_atomically(path, lambda file: file.write(printable(text).encode()))


def row(run: RunSummary) -> dict[str, Any]:
    """Everything about a run, as numbers."""
    return {
        "run": str(run.path),
        "metrics": run.metrics,
        "num_images": run.num_images,
        "accuracy": interval(run.accuracy),
        "difference": interval(run.difference),
        "gained": run.difference and run.difference.gained,
        "lost": run.difference and run.difference.lost,
        "parameters": run.parameters,
        "steps": run.steps,
        "seconds": run.seconds,
        "images_per_second": run.images_per_second,
    }


def interval(difference: Difference | None) -> dict[str, float] | None:
    """A confidence interval, as fractions."""
    return {"mean": difference.mean, "low": difference.low, "high": difference.high} if difference else None


def as_rows(
    runs: Sequence[RunSummary], reference: Sequence[PublishedRow], settings: dict[str, list[Any]]
) -> list[list[Any]]:
    """One row per run: all metrics as numbers, then the settings that differ; of published rows the accuracy."""
    names = dict.fromkeys(name for run in runs for name in run.metrics)
    costs = ("parameters", "steps", "seconds", "images_per_second")
    intervals = [f"{name}_{end}" for name in ("accuracy", "difference") for end in ("mean", "low", "high")]
    rows = [["run", *names, "num_images", *intervals, "gained", "lost", *costs, *settings]]
    for index, run in enumerate(runs):
        values = [
            *(run.metrics.get(name) for name in names),
            run.num_images,
            *(getattr(each, end, None) for each in (run.accuracy, run.difference) for end in ("mean", "low", "high")),
            *(getattr(run.difference, name, None) for name in ("gained", "lost")),
            *(getattr(run, name) for name in costs),
            *(column[index] for column in settings.values()),
        ]
        rows.append([str(run.path), *map(finite, values)])
    column = rows[0].index("accuracy_mean")
    for each in reference:
        rows.append([each.name, *[""] * (column - 1), finite(each.accuracy), *[""] * (len(rows[0]) - column - 1)])
    return rows


def tables(
    runs: Sequence[RunSummary],
    reference: Sequence[PublishedRow],
    settings: dict[str, list[Any]],
    *,
    all_metrics: bool,
) -> list[Cells]:
    """Tables of text, the first row of each its header: metrics, cost, published accuracy, settings that differ."""
    names = dict.fromkeys(name for run in runs for name in run.metrics)
    names = [name for name in names if all_metrics or name.split("/")[1] in SCREEN_METRICS]
    metrics = [["run", "images", *names, "vs first, points"]]
    costs = [["run", "parameters", "steps", "time", "images/s"]]
    for run in runs:
        path = str(run.path)
        images = "-" if run.num_images is None else f"{run.num_images:,}"
        metrics.append([path, images, *(metric(name, run.metrics.get(name)) for name in names), points(run.difference)])
        speed = f"{run.images_per_second:,.0f}" if run.seconds else "-"
        costs.append([path, f"{run.parameters:,}", f"{run.steps:,}", duration(run.seconds), speed])
    result = [metrics, costs]
    if reference:
        result.append([["published", "top-1"], *([row.name, f"{row.accuracy:.2%}"] for row in reference)])
    if settings:
        rows = [[key, *("-" if value is None else str(value) for value in values)] for key, values in settings.items()]
        result.append([["setting", *(str(run.path) for run in runs)], *rows])
    return result


def metric(name: str, value: float | None) -> str:
    """A final metric: losses as numbers, all others as percentages."""
    if value is None:
        return "-"
    return f"{value:.4f}" if name.endswith("loss") else f"{value:.2%}"


def points(difference: Difference | None) -> str:
    """A difference of accuracies and its interval, in percentage points."""
    if difference is None:
        return "-"
    mean, low, high = (100 * value for value in (difference.mean, difference.low, difference.high))
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


def duration(seconds: float) -> str:
    """A time in seconds, minutes or hours."""
    if not seconds:
        return "-"
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60)):
        if seconds < limit:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds / 3600:,.1f} h"


def rich_table(cells: Cells) -> Table:
    """A table for the screen, with names on the left and numbers on the right."""
    table = Table()
    for index, name in enumerate(cells[0]):
        table.add_column(printable(name), justify="right" if index else "left", overflow="fold")
    for line in cells[1:]:
        table.add_row(*map(printable, line))
    return table
