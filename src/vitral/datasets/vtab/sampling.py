"""Takes VTAB-1k's tasks out of complete data sets: 800 training images, 200 validation images, all test images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vitral.data.images.decode import UnreadableImage
from vitral.data.order import sample_at
from vitral.data.sources.source import Source, Subset, read_from
from vitral.datasets.data_set import Task
from vitral.errors import UserError

__all__ = ["TRAIN", "VAL", "open_task", "split_by_fractions"]

TRAIN, VAL = 800, 200
"""Number of images in the two splits."""


def open_task(task: Task, root: Path | None) -> dict[str, Source]:
    """800 images of the training split, 200 of the validation split, and all of the test split.

    The first image of each split is read, so that lists without their images are noticed here.

    Args:
        task: of VTAB-1k.
        root: the folder that contains the folder of each data set.

    Raises:
        UserError: files are missing or damaged, or the data set is not complete.
    """
    if root is None:
        raise UserError("VTAB's images cannot be shipped: give their folder with --data.root")
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: give the folder of VTAB's data sets with --data.root")
    folder, data = root / task.folder, task.data
    if not folder.is_dir():
        raise UserError(f"there is no {folder}: {data.requirements}")
    splits = data.read(folder)
    sizes = {f"{split} images": (len(splits[split]), size) for split, size in data.num_images.items()}
    sizes["classes"] = (len(splits["train"].classes), data.num_classes)
    for what, (actual, complete) in sizes.items():
        if actual != complete:
            raise UserError(
                f"{folder} has {actual:,} {what}, but the complete data set has {complete:,}; {data.requirements}"
            )
    sampled = {
        split: Subset(source=splits[split], indices=_fixed_order(len(splits[split]))[:count])
        for split, count in (("train", TRAIN), ("val", VAL))
    }
    try:
        for source in (*sampled.values(), splits["test"]):
            read_from(source, 0, channels=3)
    except UnreadableImage as error:
        raise UserError(f"{error}; {data.requirements}") from None
    return {**sampled, "test": splits["test"]}


def split_by_fractions(source: Source, fractions: Sequence[float]) -> list[Subset]:
    """Cuts a source into parts; the last part is the rest.

    VTAB cuts a data set in the order in which TensorFlow Datasets stores it, which depends on hashes of keys that the
    authors' files do not contain. Here the order is another fixed shuffle: the parts have VTAB's sizes, but contain
    other images.

    Args:
        source: all images.
        fractions: size of each part but the last.
    """
    order = _fixed_order(len(source))
    ends = [int(round(100 * sum(fractions[: number + 1])) * len(source) // 100) for number in range(len(fractions))]
    return [Subset(source=source, indices=part) for part in np.split(order, ends)]


def _fixed_order(size: int) -> np.ndarray:
    """A fixed shuffle of the indices."""
    return sample_at(np.arange(size), size=size, seed=0)[1]
