"""`vtab-mini`: ten tasks in three groups, of 800 images to learn from, 200 to choose by, and 1,000 to test on.

The groups, the number of images and the labels of the structured tasks are those of VTAB (Zhai et al. 2019); the images
are not. Two tasks read what lies on this machine, eight are drawn, so a figure here is comparable with other figures
here and with nothing else.
"""

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from vitral.data.order import sample_at
from vitral.data.sources.source import ArraySource, Source, Subset
from vitral.datasets.digits import digits
from vitral.datasets.mini.drawing import Drawing, drawn_source
from vitral.datasets.mini.scenes import COUNTS, THRESHOLDS, draw_count, draw_distance
from vitral.datasets.mini.sprites import (
    PLACES,
    TURNS,
    draw_location,
    draw_orientation,
    location_class,
    orientation_class,
)
from vitral.datasets.mini.textures import TEXTURES, draw_texture
from vitral.datasets.mini.tissue import draw_tissue
from vitral.datasets.mini.toys import AZIMUTHS, ELEVATIONS, draw_azimuth, draw_elevation
from vitral.datasets.registry import PRESETS
from vitral.datasets.transfer_task import TransferTask
from vitral.errors import UserError

__all__ = ["FASHION_MNIST", "VTAB_MINI"]

TRAIN, VAL, TEST = 800, 200, 1000

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package puts it."""


def _split(source: Source, start: int, size: int) -> Subset:
    """Images of a source in an order of no meaning, from a place in it; all that are left where there are fewer."""
    places = np.arange(start, min(start + size, len(source)))
    _, indices = sample_at(places, size=len(source), seed=0)
    return Subset(source=source, indices=indices)


def _open_digits(root: Path | None) -> dict[str, Source]:
    """All 1,797: 797 are left to test on."""
    images, labels = digits()
    source = ArraySource(title="digits", images=images, labels=labels, classes=tuple("0123456789"))
    return {
        "train": _split(source, 0, TRAIN),
        "val": _split(source, TRAIN, VAL),
        "test": _split(source, TRAIN + VAL, TEST),
    }


def _open_fashion_mnist(root: Path | None) -> dict[str, Source]:
    """From the folder `fashion-mnist` in `root`, or where Debian puts it."""
    folder = FASHION_MNIST if root is None else root / "fashion-mnist"
    preset = PRESETS["fashion-mnist"]
    if not folder.is_dir():
        raise UserError(
            f"there is no {folder}: Fashion-MNIST comes with Debian's package dataset-fashion-mnist, "
            f"or from {preset.origin} into a folder fashion-mnist in the folder of the data"
        )
    splits = preset.open(folder)
    return {
        "train": _split(splits["train"], 0, TRAIN),
        "val": _split(splits["train"], TRAIN, VAL),
        "test": _split(splits["test"], 0, TEST),
    }


def _drawn(
    name: str,
    title: str,
    group: Literal["specialized", "structured"],
    draw: Drawing,
    classes: tuple[str, ...],
    class_of: tuple[int, ...] | None = None,
    *,
    crop: bool = True,
    flip: bool = True,
) -> TransferTask:
    """A task whose images are drawn.

    Args:
        name: see `TransferTask`.
        title: see `TransferTask`.
        group: see `TransferTask`.
        draw: draws one.
        classes: their names.
        class_of: class of each value that `draw` takes; where it is left out, it takes the class.
        crop: see `TransferTask`.
        flip: see `TransferTask`.
    """
    opened = partial(_open_drawn, name, draw, classes, class_of or tuple(range(len(classes))))
    return TransferTask(
        name=name, title=title, group=group, num_classes=len(classes), open=opened, crop=crop, flip=flip
    )


def _open_drawn(
    name: str, draw: Drawing, classes: tuple[str, ...], class_of: tuple[int, ...], root: Path | None
) -> dict[str, Source]:
    source = drawn_source(name, draw, classes=classes, class_of=class_of, size=TRAIN + VAL + TEST)
    return {
        "train": Subset(source=source, indices=np.arange(TRAIN)),
        "val": Subset(source=source, indices=np.arange(TRAIN, TRAIN + VAL)),
        "test": Subset(source=source, indices=np.arange(TRAIN + VAL, TRAIN + VAL + TEST)),
    }


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(str(label) for label in range(count))


TASKS = (
    TransferTask(name="mini-digits", title="Digits", group="natural", num_classes=10, open=_open_digits),
    TransferTask(name="mini-fashion", title="Fashion-MNIST", group="natural", num_classes=10, open=_open_fashion_mnist),
    _drawn("mini-textures", "Textures", "specialized", draw_texture, tuple(TEXTURES)),
    _drawn("mini-tissue", "Tissue", "specialized", draw_tissue, ("healthy", "sick")),
    _drawn("mini-count", "Count", "structured", draw_count, tuple(str(count) for count in COUNTS), crop=False),
    _drawn(
        "mini-distance",
        "Distance",
        "structured",
        draw_distance,
        tuple(f"{low:g} to {high:g}" for low, high in pairwise(THRESHOLDS)),
        crop=False,
    ),
    _drawn(
        "mini-location",
        "Location",
        "structured",
        draw_location,
        _numbers(16),
        tuple(location_class(place) for place in range(PLACES)),
        crop=False,
        flip=False,
    ),
    _drawn(
        "mini-orientation",
        "Orientation",
        "structured",
        draw_orientation,
        _numbers(16),
        tuple(orientation_class(turn) for turn in range(TURNS)),
        flip=False,
    ),
    _drawn("mini-azimuth", "Azimuth", "structured", draw_azimuth, tuple(f"{angle}°" for angle in AZIMUTHS), flip=False),
    _drawn("mini-elevation", "Elevation", "structured", draw_elevation, tuple(f"{angle}°" for angle in ELEVATIONS)),
)

VTAB_MINI = {task.name: task for task in TASKS}
"""The tasks by name, in the order of tables."""
