"""Tables and JSON of a suite's results."""

import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console

from vitral.commands.output import print_table
from vitral.suites.transfer import GRID_SUFFIX, Score, group_means

__all__ = ["as_json", "print_grids", "print_suite", "suite_table"]

PUBLISHED = " (published)"
"""Ending of a published column's name."""

COSTS = ("images", "seconds")
"""Columns for all methods of a task: its test images, and the time without reading them."""

EDGE = 3
"""Characters of a column besides its text."""

Scores = Mapping[str, Mapping[str, Mapping[str, Score]]]
"""Scores by subject, task and method."""


def suite_table(
    scores: Scores, groups: Mapping[str, str], published: Mapping[str, Mapping[str, float]]
) -> list[list[str]]:
    """A header, a row for each task and subject, and the mean of each group if there are several tasks.

    Args:
        scores: by subject, task and method.
        groups: group of each task.
        published: accuracies of fine-tuned models, by model and task; each a column, beside the first subject.
    """
    methods = list(dict.fromkeys(name for tasks in scores.values() for row in tasks.values() for name in row))
    rows = [["task", "of", *methods, *COSTS, *(f"{model}{PUBLISHED}" for model in published)]]
    for title in groups:
        for number, (name, tasks) in enumerate(scores.items()):
            cells = (accuracy(tasks[title].get(method)) for method in methods)
            reference = ("" if number else f"{column[title]:.1%}" for column in published.values())
            rows.append([title, name, *cells, *costs(tasks[title].values()), *reference])
    if len(groups) > 1:
        for group in (*dict.fromkeys(groups.values()), "mean"):
            members = [title for title in groups if group in (groups[title], "mean")]
            for number, (name, tasks) in enumerate(scores.items()):
                means = group_means(tasks, groups)[group]
                cells = (f"{means[method]:.1%}" if method in means else "-" for method in methods)
                averages = (statistics.fmean(column[title] for title in members) for column in published.values())
                reference = ("" if number else f"{mean:.1%}" for mean in averages)
                label = f"{group}, mean" if group != "mean" else "all, mean"
                rows.append([label, name, *cells, "", "", *reference])
    return rows


def accuracy(score: Score | None) -> str:
    """Accuracy, with its standard deviation over several seeds; a dash for None."""
    if score is None:
        return "-"
    return f"{score.mean:.1%}" + (f" ± {100 * score.std:.1f}" if len(score.values) > 1 else "")


def costs(scores: Iterable[Score]) -> tuple[str, str]:
    """The number of test images, and the seconds of all methods together."""
    rows = list(scores)
    if not rows:
        return "-", "-"
    return str(rows[0].num_images), f"{sum(row.seconds for row in rows):.2f}"


def print_suite(title: str, rows: list[list[str]]) -> None:
    """Prints the table in parts that fit on the screen; the grid's and the published columns are separate parts."""
    special = {end: [n for n, name in enumerate(rows[0]) if name.endswith(end)] for end in (GRID_SUFFIX, PUBLISHED)}
    own = [n for n in range(2, len(rows[0])) if n not in (*special[GRID_SUFFIX], *special[PUBLISHED])]
    print_parts(title, [[*row[:2], *(row[n] for n in own)] for row in rows], text_columns=2)
    for caption, ending, text_columns in (
        ("regularisation selected over all tasks", GRID_SUFFIX, 2),
        ("fine-tuned, published", PUBLISHED, 1),
    ):
        if columns := special[ending]:
            cells = [[*row[:text_columns], *(row[n] for n in columns)] for row in rows if row[columns[0]]]
            cells[0] = [name.removesuffix(ending) for name in cells[0]]
            print_parts(caption, cells, text_columns=text_columns)


def print_grids(scores: Scores) -> None:
    """Prints what grids of linear probes compared, each a table of features by learning rate; a star marks the best."""
    for name, tasks in scores.items():
        for grid in (score.grid for row in tasks.values() for score in row.values() if score.grid):
            rows = [["features", *next(iter(grid.values()))]]
            rows += [[features, *(f"{value:.1%}" for value in row.values())] for features, row in grid.items()]
            values = [list(row.values()) for row in grid.values()]
            best = max(range(len(values)), key=lambda number: max(values[number]))
            rows[1 + best][1 + values[best].index(max(values[best]))] += " *"
            print_parts(f"{name}: accuracy on validation images by learning rate", rows, text_columns=1)


def print_parts(title: str, rows: list[list[str]], *, text_columns: int) -> None:
    """Prints a table; if it has too many columns for the screen, in several, each with the text columns."""
    widths = [max(cell_len(row[n]) for row in rows) + EDGE for n in range(len(rows[0]))]
    room = Console().width - sum(widths[:text_columns]) - 1
    parts: list[list[int]] = [[]]
    for n in range(text_columns, len(widths)):
        if parts[-1] and sum(widths[m] for m in parts[-1]) + widths[n] > room:
            parts.append([])
        parts[-1].append(n)
    for number, part in enumerate(parts):
        cells = [[*row[:text_columns], *(row[n] for n in part)] for row in rows if any(row[n] for n in part)]
        print_table(f"{title}, continued" if number else title, cells, text_columns=text_columns)


def as_json(
    run: Path, suite: str, scores: Scores, groups: Mapping[str, str], failures: Mapping[str, str]
) -> dict[str, Any]:
    """All results; accuracies are fractions, and tasks that failed have a sentence each."""
    return {
        "model": str(run),
        "suite": suite,
        "tasks": [
            {
                "task": title,
                "group": groups[title],
                "of": name,
                "method": score.method,
                "accuracy": score.mean,
                "deviation": score.std,
                "seeds": score.values,
                "num_images": score.num_images,
                "seconds": round(score.seconds, 3),
                **({"grid": score.grid} if score.grid else {}),
            }
            for name, tasks in scores.items()
            for title, row in tasks.items()
            for score in row.values()
        ],
        "means": {name: group_means(tasks, groups) for name, tasks in scores.items()},
        "failures": dict(failures),
    }
