"""Tables and JSON of what suites measure."""

import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console

from vitral.commands.output import show_table
from vitral.suites.transfer import GRIDDED, Score, by_group

__all__ = ["as_json", "show", "table_of"]

PUBLISHED = " (published)"
"""Behind the names of columns that others measured."""

COSTS = ("images", "seconds")
"""Columns of what all measures of a task share: its test images, and the time without reading them."""

EDGE = 3
"""What a column takes on the screen beside its text."""

Found = Mapping[str, Mapping[str, Mapping[str, Score]]]
"""Scores by subject, task and method."""


def table_of(found: Found, groups: Mapping[str, str], known: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """A head, then a row for each task and subject, and the means by group where there are several tasks.

    Args:
        found: scores by subject, task and method.
        groups: of each task.
        known: published accuracies of fine-tuned models, by model and task; each a column, beside the first subject.
    """
    methods = list(dict.fromkeys(name for tasks in found.values() for scores in tasks.values() for name in scores))
    rows = [["task", "of", *methods, *COSTS, *(f"{of}{PUBLISHED}" for of in known)]]
    for title in groups:
        for number, (name, scores) in enumerate(found.items()):
            cells = (told(scores[title].get(method)) for method in methods)
            beside = ("" if number else f"{column[title]:.1%}" for column in known.values())
            rows.append([title, name, *cells, *costs(scores[title].values()), *beside])
    if len(groups) > 1:
        for group in (*dict.fromkeys(groups.values()), "mean"):
            members = [title for title in groups if group in (groups[title], "mean")]
            for number, (name, scores) in enumerate(found.items()):
                means = by_group(scores, groups)[group]
                shares = (f"{means[method]:.1%}" if method in means else "-" for method in methods)
                published = (statistics.fmean(column[title] for title in members) for column in known.values())
                beside = ("" if number else f"{mean:.1%}" for mean in published)
                rows.append([f"{group}, mean" if group != "mean" else "all, mean", name, *shares, "", "", *beside])
    return rows


def told(found: Score | None) -> str:
    """Accuracy, and its deviation where something is drawn; a dash where there is none."""
    if found is None:
        return "-"
    return f"{found.mean:.1%}" + (f" ± {100 * found.spread:.1f}" if len(found.values) > 1 else "")


def costs(scores: Iterable[Score]) -> tuple[str, str]:
    """The test images, and the seconds that all measures took together."""
    rows = list(scores)
    if not rows:
        return "-", "-"
    return str(rows[0].num_images), f"{sum(row.seconds for row in rows):.2f}"


def show(title: str, rows: list[list[str]]) -> None:
    """The table on the screen, in parts that it has room for; the grid's and the published columns are one each."""
    apart = {ending: [n for n, name in enumerate(rows[0]) if name.endswith(ending)] for ending in (GRIDDED, PUBLISHED)}
    own = [n for n in range(2, len(rows[0])) if n not in (*apart[GRIDDED], *apart[PUBLISHED])]
    show_parts(title, [[*row[:2], *(row[n] for n in own)] for row in rows], names=2)
    for caption, ending, names in (
        ("strength chosen for all tasks", GRIDDED, 2),
        ("fine-tuned, published", PUBLISHED, 1),
    ):
        if columns := apart[ending]:
            cells = [[*row[:names], *(row[n] for n in columns)] for row in rows if row[columns[0]]]
            cells[0] = [name.removesuffix(ending) for name in cells[0]]
            show_parts(caption, cells, names=names)


def show_parts(title: str, rows: list[list[str]], *, names: int) -> None:
    """A table on the screen, of more columns than it has room for in several, each with the names."""
    widths = [max(cell_len(row[n]) for row in rows) + EDGE for n in range(len(rows[0]))]
    room = Console().width - sum(widths[:names]) - 1
    parts: list[list[int]] = [[]]
    for n in range(names, len(widths)):
        if parts[-1] and sum(widths[m] for m in parts[-1]) + widths[n] > room:
            parts.append([])
        parts[-1].append(n)
    for number, part in enumerate(parts):
        cells = [[*row[:names], *(row[n] for n in part)] for row in rows if any(row[n] for n in part)]
        show_table(f"{title}, continued" if number else title, cells, names=names)


def as_json(
    where: Path, suite: str, found: Found, groups: Mapping[str, str], left_out: Mapping[str, str]
) -> dict[str, Any]:
    """Everything that was measured; accuracies are shares, and tasks that failed have a sentence each."""
    return {
        "model": str(where),
        "suite": suite,
        "tasks": [
            {
                "task": title,
                "group": groups[title],
                "of": name,
                "method": score.method,
                "accuracy": score.mean,
                "deviation": score.spread,
                "seeds": score.values,
                "num_images": score.num_images,
                "seconds": round(score.seconds, 3),
            }
            for name, tasks in found.items()
            for title, scores in tasks.items()
            for score in scores.values()
        ],
        "means": {name: by_group(tasks, groups) for name, tasks in found.items()},
        "left_out": dict(left_out),
    }
