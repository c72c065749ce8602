"""`vitral compare`: finished runs side by side."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vitral.commands.output import check_out, plain, print_json, printable
from vitral.evals.paired import Difference
from vitral.files import as_csv, as_markdown, write_atomically
from vitral.suites.published import SOURCES, PublishedRow, published
from vitral.sweeps.compare import Contender, contenders, different_settings

__all__ = ["main"]

DESCRIPTION = """Puts finished runs side by side: final figures, the difference to the first run's accuracy with its
95 % interval (paired bootstrap over the images that both were measured on), parameters, steps, time of training and
images a second; then the settings that differ."""

ENDINGS = (".md", ".csv", ".png")
ON_SCREEN = ("top1", "loss", "knn", "linear")
"""Measures that the screen has room for; --json and files have all."""

Cells = list[list[str]]


def main(arguments: list[str]) -> None:
    """Prints the tables, or with `--json` one object; writes the files of `--out`."""
    options = parsed(arguments)
    for path in options.out:
        check_out(path, endings=ENDINGS)
    runs = contenders(options.runs)
    known = published(runs[0].config.data.source) if options.published else []
    settings = different_settings([run.config for run in runs])
    if options.json:
        rows = [row(run) for run in runs]
        print_json(
            {
                "baseline": rows[0]["run"],
                "runs": rows,
                "published": [vars(row) for row in known],
                "settings": settings,
                "files": list(map(str, options.out)),
            }
        )
    else:
        console = Console(highlight=False, markup=False)
        for cells in tables(runs, known, settings, all_figures=False):
            console.print(rich_table(cells))
    # last, as a full disk must not cost the figures
    for path in options.out:
        write(path, runs, known, settings)
        if not options.json:
            print(printable(f"written: {path}"))


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="vitral compare", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="folders of finished runs, two or more")
    parser.add_argument(
        "--out",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="write the comparison into a file: a table (.md, .csv) or a picture (.png); may be given several times",
    )
    parser.add_argument(
        "--published",
        action="store_true",
        help=f"beside what the paper's models reached on the same images: {', '.join(SOURCES)}",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(arguments)


def write(path: Path, runs: Sequence[Contender], known: Sequence[PublishedRow], settings: dict[str, list[Any]]) -> None:
    """Writes the comparison in the form that the file's ending names."""
    match path.suffix.lower():
        case ".png":
            from vitral.sweeps.comparison_picture import draw_comparison  # here, as Matplotlib takes a second

            draw_comparison(runs, path, known=known)
            return
        case ".csv":
            text = as_csv(as_rows(runs, known, settings))
        case _:
            text = "\n".join(map(as_markdown, tables(runs, known, settings, all_figures=True)))
    write_atomically(path, lambda file: file.write(printable(text).encode()))


def row(run: Contender) -> dict[str, Any]:
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


def interval(found: Difference | None) -> dict[str, float] | None:
    """An interval as numbers; shares are fractions."""
    return {"mean": found.mean, "low": found.low, "high": found.high} if found else None


def as_rows(
    runs: Sequence[Contender], known: Sequence[PublishedRow], settings: dict[str, list[Any]]
) -> list[list[Any]]:
    """One line a run: all figures as numbers, then the settings that differ; of what is published the accuracy."""
    names = dict.fromkeys(name for run in runs for name in run.metrics)
    costs = ("parameters", "steps", "seconds", "images_per_second")
    shares = [f"{what}_{end}" for what in ("accuracy", "difference") for end in ("mean", "low", "high")]
    lines = [["run", *names, "num_images", *shares, "gained", "lost", *costs, *settings]]
    for index, run in enumerate(runs):
        figures = [run.metrics.get(name) for name in names]
        intervals = [
            getattr(found, end, None) for found in (run.accuracy, run.difference) for end in ("mean", "low", "high")
        ]
        changes = [getattr(run.difference, name, None) for name in ("gained", "lost")]
        measured = [getattr(run, name) for name in costs]
        values = [
            *figures,
            run.num_images,
            *intervals,
            *changes,
            *measured,
            *(column[index] for column in settings.values()),
        ]
        lines.append([str(run.path), *map(plain, values)])
    place = lines[0].index("accuracy_mean")
    for row in known:
        lines.append([row.name, *[""] * (place - 1), plain(row.accuracy), *[""] * (len(lines[0]) - place - 1)])
    return lines


def tables(
    runs: Sequence[Contender],
    known: Sequence[PublishedRow],
    settings: dict[str, list[Any]],
    *,
    all_figures: bool,
) -> list[Cells]:
    """What is for people, row by row, the first row as head: figures, cost, and the settings that differ if any do."""
    names = dict.fromkeys(name for run in runs for name in run.metrics)
    shown = [name for name in names if all_figures or name.split("/")[1] in ON_SCREEN]
    figures, costs = (
        [["run", "images", *shown, "points to the first"]],
        [["run", "parameters", "steps", "time", "images/s"]],
    )
    for run in runs:
        name = str(run.path)
        images = "-" if run.num_images is None else f"{run.num_images:,}"
        figures.append([name, images, *(figure(each, run.metrics.get(each)) for each in shown), points(run.difference)])
        speed = f"{run.images_per_second:,.0f}" if run.seconds else "-"
        costs.append([name, f"{run.parameters:,}", f"{run.steps:,}", duration(run.seconds), speed])
    found = [figures, costs]
    if known:
        found.append([["published", "top-1"], *([row.name, f"{row.accuracy:.2%}"] for row in known)])
    if settings:
        differ = [[key, *("-" if value is None else str(value) for value in each)] for key, each in settings.items()]
        found.append([["setting", *(str(run.path) for run in runs)], *differ])
    return found


def figure(name: str, value: float | None) -> str:
    """A final figure: losses as they are, all others as percentages."""
    if value is None:
        return "-"
    return f"{value:.4f}" if name.endswith("loss") else f"{value:.2%}"


def points(found: Difference | None) -> str:
    """A difference of accuracies and its interval, in percentage points."""
    return f"{100 * found.mean:+.2f} ({100 * found.low:+.2f} to {100 * found.high:+.2f})" if found else "-"


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    if not seconds:
        return "-"
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60)):
        if seconds < limit:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds / 3600:,.1f} h"


def rich_table(cells: Cells) -> Table:
    """A table for the screen, names to the left and numbers to the right."""
    table = Table()
    for index, name in enumerate(cells[0]):
        table.add_column(printable(name), justify="right" if index else "left", overflow="fold")
    for line in cells[1:]:
        table.add_row(*map(printable, line))
    return table
