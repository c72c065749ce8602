"""CLEVR v1.0: rendered solids, with everything about them in JSON. How many are there, and how near is the nearest?"""

import json
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from vitral.data.sources.source import FileSource, Source
from vitral.datasets.originals.files import content, holding
from vitral.datasets.registry import Preset
from vitral.datasets.vtab.building import divided, vtab_task
from vitral.errors import UserError

__all__ = ["CLEVR", "count_class", "distance_class"]

COUNTS = range(3, 11)
"""Objects in an image."""
Label = Callable[[list[dict[str, Any]]], int]
THRESHOLDS = (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0)
"""Bounds of the classes of the distance to the nearest object."""


def count_class(objects: list[dict[str, Any]]) -> int:
    """3 to 10 objects are the classes 0 to 7."""
    return len(objects) - COUNTS.start


def distance_class(objects: list[dict[str, Any]]) -> int:
    """The last threshold below the depth of the nearest object, so that 8 itself is still in the first class."""
    nearest = min(float(thing["pixel_coords"][2]) for thing in objects)
    return int(np.searchsorted(THRESHOLDS, nearest, side="left")) - 1


def open_clevr(
    root: Path, *, label: Callable[[list[dict[str, Any]]], int], classes: tuple[str, ...]
) -> dict[str, Source]:
    """CLEVR's `images/train/*.png`, `images/val/*.png` and `scenes/CLEVR_train_scenes.json`, `CLEVR_val_scenes.json`.

    Its validation images are the test split, as those of its test have no scenes; a tenth of the training images are
    the validation split.

    Raises:
        UserError: files are missing or damaged.
    """
    folder = holding(root, "scenes/CLEVR_train_scenes.json", "CLEVR_v1.0")
    train, val = divided(_source(folder, "train", label, classes), (0.9,))
    return {"train": train, "val": val, "test": _source(folder, "val", label, classes)}


def _source(folder: Path, split: str, label: Label, classes: tuple[str, ...]) -> FileSource:
    file = folder / f"scenes/CLEVR_{split}_scenes.json"
    read = content(file)
    try:
        scenes = json.loads(read)["scenes"]
        files = tuple(f"images/{split}/{scene['image_filename']}" for scene in scenes)
        labels = np.array([label(scene["objects"]) for scene in scenes], np.int64)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError, RecursionError):
        raise UserError(f"{file} is damaged, or not CLEVR's: fetch it again") from None
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= len(classes):
        raise UserError(f"{file} has scenes of other than 3 to 10 objects, or beyond a depth of 100: fetch it again")
    return FileSource(root=folder, files=files, labels=labels, classes=classes)


def _original(label: Label, classes: tuple[str, ...]) -> Preset:
    return Preset(
        title="CLEVR",
        num_classes=len(classes),
        num_images={"train": 63_000, "val": 7_000, "test": 15_000},
        needs="CLEVR_v1.0/, with images/ and scenes/ (CLEVR_v1.0.zip)",
        origin="https://cs.stanford.edu/people/jcjohns/clevr/",
        open=partial(open_clevr, label=label, classes=classes),
    )


_COUNTED = _original(count_class, tuple(f"{count} objects" for count in COUNTS))
_MEASURED = _original(distance_class, tuple(f"{low:g} to {high:g}" for low, high in pairwise(THRESHOLDS)))

CLEVR = (
    vtab_task("clevr-count", "Clevr-Count", "structured", _COUNTED, folder="clevr", crop=False),
    vtab_task("clevr-distance", "Clevr-Dist", "structured", _MEASURED, folder="clevr", crop=False),
)
"""Both tasks."""
