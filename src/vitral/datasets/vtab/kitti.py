"""KITTI: photographs from a car with 3D annotations, classified by the distance to the nearest vehicle."""

from pathlib import Path

import numpy as np

from vitral.data.sources.source import FileSource, Source, Subset
from vitral.datasets.originals.files import find_folder, read_file, read_lines
from vitral.errors import UserError

__all__ = ["CLASSES", "open_kitti", "vehicle_class"]

VEHICLES = ("Car", "Van", "Truck")
TYPES = (*VEHICLES, "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc", "DontCare")
THRESHOLDS = (-100.0, 8.0, 20.0, 999.0)
"""Lower bounds of the classes, in metres; every vehicle is between the first and the last."""
NONE = 1000.0
"""Distance where there is no vehicle."""
CLASSES = ("to 8 m", "8 to 20 m", "beyond 20 m", "none")
TYPE, DEPTH, WORDS = 0, 13, 15
"""Columns of a line about an object, and their number."""
HELD_OUT = 0.1
"""Fraction of the drives in the test split; the validation split has as many."""


def vehicle_class(objects: list[str]) -> int:
    """The number of the last threshold below the depth of the nearest car, van or truck; 8 m is in the first class.

    Args:
        objects: lines of KITTI's `label_2`, such as `Car 0.00 0 -1.58 587.01 173.33 614.12 200.12 1.65 1.67 3.64 -0.65
            1.71 46.70 -1.59`.

    Raises:
        UserError: a line has another form, or a vehicle is at a depth without a class.
    """
    words = [line.split() for line in objects]
    if any(len(each) != WORDS or each[TYPE] not in TYPES for each in words):
        raise UserError("a line describes no object")
    depths = [float(each[DEPTH]) for each in words if each[TYPE] in VEHICLES]
    if not all(THRESHOLDS[0] < depth <= THRESHOLDS[-1] for depth in depths):
        raise UserError(f"a vehicle is not between {THRESHOLDS[0]:g} and {THRESHOLDS[-1]:g} m away")
    nearest = min(depths, default=NONE)
    return int(np.searchsorted(THRESHOLDS, nearest, side="left")) - 1


def open_kitti(root: Path) -> dict[str, Source]:
    """KITTI's object detection: `training/image_2/*.png`, `training/label_2/*.txt`, and `mapping/` of its devkit.

    Whole drives are held out, because consecutive images of a drive are nearly equal: a tenth for the test split, as
    many for the validation split. The sampling is that of TensorFlow Datasets (NumPy's legacy generator, seed 123).

    Raises:
        UserError: files are missing or damaged.
    """
    folder = find_folder(root, "training/label_2", "kitti")
    mapping = find_folder(root, "mapping/train_rand.txt", "devkit_object") / "mapping"
    drives = _drives(mapping)
    images = [f"{number:06d}" for number in range(len(drives))]
    labels = np.array([_label(folder / "training/label_2" / f"{image}.txt") for image in images], np.int64)
    everything = FileSource(
        root=folder, files=tuple(f"training/image_2/{image}.png" for image in images), labels=labels, classes=CLASSES
    )
    generator, names = np.random.RandomState(123), sorted(set(drives))
    count = max(1, int(HELD_OUT * len(names)))
    test = set(generator.choice(names, count, replace=False).tolist())
    val = set(generator.choice(sorted(set(names) - test), count, replace=False).tolist())
    splits = {"train": set(names) - test - val, "val": val, "test": test}
    return {
        split: Subset(source=everything, indices=np.flatnonzero([drive in members for drive in drives]))
        for split, members in splits.items()
    }


def _drives(mapping: Path) -> list[str]:
    """The drive of each training image."""
    order, frames = read_file(mapping / "train_rand.txt"), read_lines(mapping / "train_mapping.txt")
    drives = dict(enumerate((line.split() for line in frames), start=1))
    try:
        return [drives[int(number)][1] for number in order.decode().split(",")]
    except (ValueError, IndexError, KeyError):
        raise UserError(f"{mapping} is damaged, or not that of KITTI's development kit: download it again") from None


def _label(file: Path) -> int:
    objects = read_lines(file)
    try:
        return vehicle_class(list(objects))
    except ValueError as error:
        raise UserError(f"{file} is damaged, or not one of KITTI's ({error}): download it again") from None
