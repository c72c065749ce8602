"""KITTI: photographs from a car, with all that is around it in three dimensions. How far is the nearest vehicle?"""

from pathlib import Path

import numpy as np

from vitral.data.sources.source import FileSource, Source, Subset
from vitral.datasets.originals.files import content, holding, lines
from vitral.datasets.registry import Preset
from vitral.datasets.vtab.building import vtab_task
from vitral.errors import UserError

__all__ = ["KITTI", "open_kitti", "vehicle_class"]

VEHICLES = ("Car", "Van", "Truck")
TYPES = (*VEHICLES, "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc", "DontCare")
THRESHOLDS = (-100.0, 8.0, 20.0, 999.0)
"""Lower bounds of the classes, in metres; no vehicle is nearer than the first, or farther than the last."""
NONE = 1000.0
"""Distance where there is no vehicle."""
CLASSES = ("to 8 m", "8 to 20 m", "beyond 20 m", "none")
TYPE, DEPTH, WORDS = 0, 13, 15
"""Words of a line about an object, and their number."""
HELD_OUT = 0.1
"""Share of the drives that are the test split, and of the others' number that are the validation split."""


def vehicle_class(objects: list[str]) -> int:
    """The last threshold that is below the depth of the nearest car, van or truck, so that 8 m are still near.

    Args:
        objects: lines of KITTI's `label_2`, such as `Car 0.00 0 -1.58 587.01 173.33 614.12 200.12 1.65 1.67 3.64 -0.65
            1.71 46.70 -1.59`.

    Raises:
        UserError: a line is not of that form, or a vehicle at a depth that has no class.
    """
    words = [line.split() for line in objects]
    if any(len(each) != WORDS or each[TYPE] not in TYPES for each in words):
        raise UserError("a line tells of no object")
    depths = [float(each[DEPTH]) for each in words if each[TYPE] in VEHICLES]
    if not all(THRESHOLDS[0] < depth <= THRESHOLDS[-1] for depth in depths):
        raise UserError(f"a vehicle is not between {THRESHOLDS[0]:g} and {THRESHOLDS[-1]:g} m away")
    nearest = min(depths, default=NONE)
    return int(np.searchsorted(THRESHOLDS, nearest, side="left")) - 1


def open_kitti(root: Path) -> dict[str, Source]:
    """KITTI's object detection: `training/image_2/*.png`, `training/label_2/*.txt`, and `mapping/` of its devkit.

    Whole drives are held out, since neighbours in a drive are nearly the same image: a tenth for the test split, as
    many for the validation split, drawn as TensorFlow Datasets draws them, from NumPy's legacy generator with seed 123.

    Raises:
        UserError: files are missing or damaged.
    """
    folder = holding(root, "training/label_2", "kitti")
    mapping = holding(root, "mapping/train_rand.txt", "devkit_object") / "mapping"
    drives = _drives(mapping)
    names = [f"{number:06d}" for number in range(len(drives))]
    labels = np.array([_label(folder / "training/label_2" / f"{name}.txt") for name in names], np.int64)
    everything = FileSource(
        root=folder, files=tuple(f"training/image_2/{name}.png" for name in names), labels=labels, classes=CLASSES
    )
    generator, known = np.random.RandomState(123), sorted(set(drives))
    count = max(1, int(HELD_OUT * len(known)))
    test = set(generator.choice(known, count, replace=False).tolist())
    val = set(generator.choice(sorted(set(known) - test), count, replace=False).tolist())
    splits = {"train": set(known) - test - val, "val": val, "test": test}
    return {
        split: Subset(source=everything, indices=np.flatnonzero([drive in members for drive in drives]))
        for split, members in splits.items()
    }


def _drives(mapping: Path) -> list[str]:
    """The drive that each training image comes from."""
    order, frames = content(mapping / "train_rand.txt"), lines(mapping / "train_mapping.txt")
    drives = dict(enumerate((line.split() for line in frames), start=1))
    try:
        return [drives[int(number)][1] for number in order.decode().split(",")]
    except (ValueError, IndexError, KeyError):
        raise UserError(f"{mapping} is damaged, or not that of KITTI's development kit: fetch it again") from None


def _label(file: Path) -> int:
    objects = lines(file)
    try:
        return vehicle_class(list(objects))
    except ValueError as error:
        raise UserError(f"{file} is damaged, or not one of KITTI's ({error}): fetch it again") from None


_ORIGINAL = Preset(
    title="KITTI",
    num_classes=len(CLASSES),
    num_images={"train": 6_347, "val": 423, "test": 711},
    needs="training/image_2/ (data_object_image_2.zip), training/label_2/ (data_object_label_2.zip) and mapping/ "
    "(devkit_object.zip)",
    origin="https://www.cvlibs.net/datasets/kitti/eval_object.php?obj_benchmark=2d",
    open=open_kitti,
)

KITTI = (vtab_task("kitti-distance", "KITTI-Dist", "structured", _ORIGINAL, folder="kitti", crop=False),)
"""The task."""
