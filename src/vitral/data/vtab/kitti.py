"""KITTI: photographs from a car, with all that is around it in three dimensions. How far is the nearest vehicle?"""

from pathlib import Path

import numpy as np

from vitral.data.originals.files import content, holding, lines
from vitral.data.presets import Preset
from vitral.data.sources import FileSource, Source, Subset
from vitral.data.vtab.building import vtab_task

__all__ = ["KITTI", "open_kitti", "vehicle_class"]

VEHICLES = ("Car", "Van", "Truck")
THRESHOLDS = (-100.0, 8.0, 20.0, 999.0)
"""Lower bounds of the classes, in metres."""
NONE = 1000.0
"""Distance where there is no vehicle."""
CLASSES = ("to 8 m", "8 to 20 m", "beyond 20 m", "none")
TYPE, DEPTH = 0, 13
"""Words of a line about an object."""
HELD_OUT = 0.1
"""Share of the drives that are the test split, and of the others' number that are the validation split."""


def vehicle_class(objects: list[str]) -> int:
    """The last threshold that is below the depth of the nearest car, van or truck, so that 8 m are still near.

    Args:
        objects: lines of KITTI's `label_2`, such as `Car 0.00 0 -1.58 587.01 173.33 614.12 200.12 1.65 1.67 3.64 -0.65
            1.71 46.70 -1.59`.
    """
    words = [line.split() for line in objects]
    nearest = min((float(each[DEPTH]) for each in words if each[TYPE] in VEHICLES), default=NONE)
    return int(np.searchsorted(THRESHOLDS, nearest, side="left")) - 1


def open_kitti(root: Path) -> dict[str, Source]:
    """KITTI's object detection: `training/image_2/*.png`, `training/label_2/*.txt`, and `mapping/` of its devkit.

    Whole drives are held out, since neighbours in a drive are nearly the same image: a tenth for the test split, as
    many for the validation split, drawn as TensorFlow Datasets draws them, from NumPy's legacy generator with seed 123.

    Raises:
        ValueError: files are missing or damaged.
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
    try:
        order = [int(number) - 1 for number in content(mapping / "train_rand.txt").decode().split(",")]
        frames = [line.split()[1] for line in lines(mapping / "train_mapping.txt")]
        return [frames[place] for place in order]
    except (ValueError, IndexError) as error:
        if str(error).startswith(str(mapping)):
            raise
        raise ValueError(f"{mapping} is damaged, or not that of KITTI's development kit: fetch it again") from None


def _label(file: Path) -> int:
    try:
        return vehicle_class(list(lines(file)))
    except (ValueError, IndexError) as error:
        if str(error).startswith(str(file)):
            raise
        raise ValueError(f"{file} is damaged, or not one of KITTI's: fetch it again") from None


_ORIGINAL = Preset(
    title="KITTI",
    num_classes=len(CLASSES),
    num_images={"train": 6_347, "val": 423, "test": 711},
    needs="training/image_2/ and training/label_2/ of the object data, and mapping/ of its development kit",
    origin="https://www.cvlibs.net/datasets/kitti/eval_object.php?obj_benchmark=2d",
    open=open_kitti,
)

KITTI = (vtab_task("kitti-distance", "KITTI-Dist", "structured", _ORIGINAL, folder="kitti", crop=False),)
"""The task."""
