"""Draws vtab-mini.png beside itself: a few test images of every task, with their classes."""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from vitral.data.sources.source import read_from
from vitral.datasets.registry import tasks_of

COLUMNS = 9

SIDE, LEFT, TITLE = 0.9, 1.25, 0.17
"""Side of an image, width of the tasks' names, height of the classes' names, in inches."""


TASKS = tasks_of("vtab-mini")


def draw(path: Path) -> None:
    """Draws into a PNG."""
    width, height = LEFT + COLUMNS * (SIDE + 0.05), len(TASKS) * (SIDE + TITLE) + 0.05
    figure = Figure(figsize=(width, height), dpi=100)
    for row, task in enumerate(TASKS.values()):
        test = task.open(None)["test"]
        bottom = height - (row + 1) * (SIDE + TITLE)
        middle = (bottom + SIDE / 2) / height
        figure.text(0.08 / width, middle, task.title, fontsize=9, va="bottom")
        figure.text(0.08 / width, middle - 0.03 / height, task.group, fontsize=7, va="top", color="#555555")
        for column in range(COLUMNS):
            left = LEFT + column * (SIDE + 0.05)
            axes = figure.add_axes((left / width, bottom / height, SIDE / width, SIDE / height))
            axes.imshow(np.asarray(read_from(test, column, channels=3)), interpolation="nearest")
            axes.set_axis_off()
            axes.set_title(test.classes[test.labels[column]], fontsize=7, pad=2)
    figure.savefig(path, metadata={"Software": ""})


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("vtab-mini.png"))
