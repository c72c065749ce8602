"""What the tasks of VTAB-1k have in common: where their files lie, how large they are, and which images count."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from vitral.data.images.decode import UnreadableImage
from vitral.data.order import sample_at
from vitral.data.sources.source import Source, Subset, read_from
from vitral.datasets.registry import Preset
from vitral.datasets.transfer_task import TransferTask
from vitral.errors import UserError

__all__ = ["TRAIN", "VAL", "divided", "vtab_task"]

TRAIN, VAL = 800, 200
"""Images to learn from, and to choose settings by."""


def vtab_task(
    name: str,
    title: str,
    group: Literal["natural", "specialized", "structured"],
    original: Preset,
    *,
    folder: str,
    crop: bool = True,
    flip: bool = True,
) -> TransferTask:
    """A task on a data set that lies in `folder`, inside the folder of all data.

    Args:
        name: see `TransferTask`.
        title: see `TransferTask`.
        group: see `TransferTask`.
        original: opens the complete splits train, val and test.
        folder: its name.
        crop: see `TransferTask`.
        flip: see `TransferTask`.
    """
    splits = partial(_opened, original=original, folder=folder)
    return TransferTask(
        name=name, title=title, group=group, num_classes=original.num_classes, open=splits, crop=crop, flip=flip
    )


def divided(source: Source, shares: Sequence[float]) -> list[Subset]:
    """A source cut into parts, the last of which is what is left.

    VTAB cuts in the order in which TensorFlow Datasets stores a data set, by a hash of its own keys, which the authors'
    files do not tell. Here it is another order without meaning, fixed once and for all: sizes are VTAB's, the images in
    each part are not.

    Args:
        source: all images.
        shares: of the parts but the last.
    """
    order = _order(len(source))
    ends = [int(round(100 * sum(shares[: number + 1])) * len(source) // 100) for number in range(len(shares))]
    return [Subset(source=source, indices=part) for part in np.split(order, ends)]


def _opened(root: Path | None, *, original: Preset, folder: str) -> dict[str, Source]:
    """800 images of the training split, 200 of the validation split, and all of the test split.

    The first image of each is read, so that lists without their images are found out here.

    Raises:
        UserError: files are missing or damaged, or the data set is not complete.
    """
    if root is None:
        raise UserError("VTAB's images cannot be shipped: name the folder with its data sets by --data.root")
    if not root.is_dir():
        raise UserError(f"{root} is no folder: name the one with VTAB's data sets by --data.root")
    place = root / folder
    if not place.is_dir():
        raise UserError(f"there is no {place}: {original.wanted}")
    splits = original.opened(place)
    sizes = {f"{split} images": (len(splits[split]), size) for split, size in original.num_images.items()}
    sizes["classes"] = (len(splits["train"].classes), original.num_classes)
    for what, (found, complete) in sizes.items():
        if found != complete:
            raise UserError(f"{place} has {found:,} {what}, and the complete data set {complete:,}; {original.wanted}")
    chosen = {
        split: Subset(source=splits[split], indices=_order(len(splits[split]))[:count])
        for split, count in (("train", TRAIN), ("val", VAL))
    }
    try:
        for source in (*chosen.values(), splits["test"]):
            read_from(source, 0, channels=3)
    except UnreadableImage as error:
        raise UserError(f"{error}; {original.wanted}") from None
    return {**chosen, "test": splits["test"]}


def _order(size: int) -> np.ndarray:
    """Indices in an order without meaning, always the same."""
    return sample_at(np.arange(size), size=size, seed=0)[1]
