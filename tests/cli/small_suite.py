"""`vitral` with a `vtab-mini` of two tiny tasks and a quick way to fine-tune, to be killed and started again."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from vitral.cli import main
from vitral.data.mini.tasks import VTAB_MINI
from vitral.data.sources import Source, Subset
from vitral.data.transfer_task import TransferTask
from vitral.studies.finetuning import PROTOCOLS, Protocol

TITLES = ("Digits", "Tissue")


def first(task: TransferTask, root: Path | None) -> dict[str, Source]:
    """A task of fewer images."""
    sizes = {"train": 60, "val": 20, "test": 50}
    return {
        split: Subset(source=source.source, indices=source.indices[: sizes[split]])
        for split, source in task.open(root).items()
        if isinstance(source, Subset)
    }


def shrink() -> None:
    """Makes the suite small."""
    tasks = {name: task for name, task in VTAB_MINI.items() if task.title in TITLES}
    VTAB_MINI.clear()
    VTAB_MINI.update({name: replace(task, open=partial(first, task)) for name, task in tasks.items()})
    PROTOCOLS["light"] = Protocol(rates=(0.1,), steps=15, batch_size=16, image_size=None, varied=False)


if __name__ == "__main__":
    shrink()
    main(sys.argv[1:])
