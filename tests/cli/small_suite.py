"""`vitral` with a `vtab-mini` of three tiny tasks and a quick way to fine-tune, to be killed and started again."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from vitral.cli import main
from vitral.data.mini.tasks import VTAB_MINI
from vitral.data.sources import Source, Subset
from vitral.data.transfer_task import TransferTask
from vitral.studies.finetuning import PROTOCOLS, Protocol

TITLES = ("Digits", "Textures", "Tissue")


def first(task: TransferTask, root: Path | None) -> dict[str, Source]:
    """A task of fewer images."""
    sizes = {"train": 120, "val": 40, "test": 50}
    return {
        split: Subset(source=source.source, indices=source.indices[: sizes[split]])
        for split, source in task.open(root).items()
        if isinstance(source, Subset)
    }


if __name__ == "__main__":
    tasks = {name: task for name, task in VTAB_MINI.items() if task.title in TITLES}
    VTAB_MINI.clear()
    VTAB_MINI.update({name: replace(task, open=partial(first, task)) for name, task in tasks.items()})
    PROTOCOLS["light"] = Protocol(rates=(0.01, 0.1), steps=40, batch_size=16, image_size=None, varied=False)
    main(sys.argv[1:])
