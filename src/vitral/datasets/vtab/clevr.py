"""CLEVR v1.0: rendered solids with their attributes in JSON; the classes are their number or the nearest depth."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vitral.data.sources.source import FileSource, Source
from vitral.datasets.originals.files import find_folder, read_file
from vitral.datasets.vtab.sampling import split_by_fractions
from vitral.errors import UserError

__all__ = ["count_class", "distance_class", "open_clevr"]

COUNTS = range(3, 11)
"""Objects in an image."""
Label = Callable[[list[dict[str, Any]]], int]
THRESHOLDS = (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0)
"""Bounds of the classes of the distance to the nearest object."""


def count_class(objects: list[dict[str, Any]]) -> int:
    """3 to 10 objects are the classes 0 to 7."""
    return len(objects) - COUNTS.start


def distance_class(objects: list[dict[str, Any]]) -> int:
    """The number of the last threshold below the depth of the nearest object; a depth of 8 is in the first class."""
    nearest = min(float(thing["pixel_coords"][2]) for thing in objects)
    return int(np.searchsorted(THRESHOLDS, nearest, side="left")) - 1


TASKS: dict[str, tuple[Label, tuple[str, ...]]] = {
    "count": (count_class, tuple(f"{count} objects" for count in COUNTS)),
    "distance": (distance_class, tuple(f"{low:g} to {high:g}" for low, high in pairwise(THRESHOLDS))),
}
"""The label of a scene and the names of the classes, by task."""


def open_clevr(root: Path, *, task: Literal["count", "distance"]) -> dict[str, Source]:
    """CLEVR's `images/train/*.png`, `images/val/*.png` and `scenes/CLEVR_train_scenes.json`, `CLEVR_val_scenes.json`.

    CLEVR's validation images are the test split, because its test images have no scenes. A tenth of the training images
    are the validation split.

    Raises:
        UserError: files are missing or damaged.
    """
    folder = find_folder(root, "scenes/CLEVR_train_scenes.json", "CLEVR_v1.0")
    label, classes = TASKS[task]
    train, val = split_by_fractions(_source(folder, "train", label, classes), (0.9,))
    return {"train": train, "val": val, "test": _source(folder, "val", label, classes)}


def _source(folder: Path, split: str, label: Label, classes: tuple[str, ...]) -> FileSource:
    file = folder / f"scenes/CLEVR_{split}_scenes.json"
    content = read_file(file)
    try:
        scenes = json.loads(content)["scenes"]
        files = tuple(f"images/{split}/{scene['image_filename']}" for scene in scenes)
        labels = np.array([label(scene["objects"]) for scene in scenes], np.int64)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError, RecursionError):
        raise UserError(f"{file} is damaged, or not CLEVR's: download it again") from None
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= len(classes):
        raise UserError(f"{file} has scenes of other than 3 to 10 objects, or beyond a depth of 100: download it again")
    return FileSource(root=folder, files=files, labels=labels, classes=classes)
