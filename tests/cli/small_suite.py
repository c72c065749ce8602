"""`vitral` with a `vtab-mini` of two tiny tasks and quick fine-tuning.

KILLED_AFTER=N kills it once N results are cached; UNREADABLE=TITLE makes the images of a task unreadable.
"""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitral.cli import main
from vitral.data.images.decode import UnreadableImage
from vitral.data.sources.source import Source, Subset
from vitral.datasets.data_set import Task
from vitral.datasets.registry import TASKS, tasks_of
from vitral.suites import score_cache
from vitral.suites.finetuning import PROTOCOLS, Protocol

TITLES = ("Digits", "Tissue")


def first(task: Task, root: Path | None) -> dict[str, Source]:
    """A task of fewer images."""
    sizes = {"train": 60, "val": 20, "test": 50}
    return {
        split: Subset(source=source.source, indices=source.indices[: sizes[split]])
        for split, source in task.open(root).items()
        if isinstance(source, Subset)
    }


def with_reader(task: Task, reader: Callable[[Path | None], dict[str, Source]]) -> Task:
    """The task with other images."""
    return replace(task, data=replace(task.data, reader=reader))


class UnreadableSubset(Subset):
    """Images that cannot be read."""

    def stored(self, index: int) -> Image.Image:
        raise UnreadableImage(f"image {index} is unreadable")


def make_unreadable(title: str) -> None:
    """Makes a task's images unreadable, once it is started."""
    (name,) = (name for name, task in tasks_of("vtab-mini").items() if task.title == title)
    whole = TASKS[name].open

    def opened(root: Path | None) -> dict[str, Source]:
        sources = whole(root).items()
        return {split: UnreadableSubset(source=source, indices=np.arange(len(source))) for split, source in sources}

    TASKS[name] = with_reader(TASKS[name], opened)


def kill_after(count: int) -> None:
    """Kills this process as soon as so many results are on disk."""
    written = iter(range(1, count + 1))
    write = score_cache.write_json

    def killing(path: Path, value: Any) -> None:
        write(path, value)
        if next(written) == count:
            os.kill(os.getpid(), signal.SIGKILL)

    score_cache.write_json = killing


def shrink() -> None:
    """Makes the suite small."""
    tasks = {name: task for name, task in tasks_of("vtab-mini").items() if task.title in TITLES}
    TASKS.clear()
    TASKS.update({name: with_reader(task, partial(first, task)) for name, task in tasks.items()})
    PROTOCOLS["light"] = Protocol(rates=(0.1,), steps=15, batch_size=16, image_size=None, augment=False)


if __name__ == "__main__":
    shrink()
    if title := os.environ.get("UNREADABLE"):
        make_unreadable(title)
    if count := os.environ.get("KILLED_AFTER"):
        kill_after(int(count))
    main(sys.argv[1:])
