"""`vtab-mini`: ten tasks in three groups, each with 800 training, 200 validation and 1,000 test images.

The groups, the number of images and the labels of the structured tasks are those of VTAB (Zhai et al. 2019); the images
are not. Two tasks use images that are installed, eight are drawn. Results are comparable with each other, not with
VTAB's.
"""

from itertools import pairwise
from pathlib import Path

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
from vitral.datasets.registry import DATA_SETS
from vitral.errors import UserError

__all__ = [
    "FASHION_MNIST",
    "open_azimuth",
    "open_count",
    "open_digits",
    "open_distance",
    "open_elevation",
    "open_fashion_mnist",
    "open_location",
    "open_orientation",
    "open_textures",
    "open_tissue",
]

TRAIN, VAL, TEST = 800, 200, 1000

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package installs it."""


def open_digits(root: Path | None) -> dict[str, Source]:
    """All 1,797 digits, so only 797 remain for the test split."""
    images, labels = digits()
    source = ArraySource(title="digits", images=images, labels=labels, classes=tuple("0123456789"))
    return {
        "train": _shuffled_slice(source, 0, TRAIN),
        "val": _shuffled_slice(source, TRAIN, VAL),
        "test": _shuffled_slice(source, TRAIN + VAL, TEST),
    }


def open_fashion_mnist(root: Path | None) -> dict[str, Source]:
    """From the folder `fashion-mnist` in `root`, or where Debian installs it.

    Raises:
        UserError: it is not there, or damaged.
    """
    folder = FASHION_MNIST if root is None else root / "fashion-mnist"
    data = DATA_SETS["fashion-mnist"]
    if not folder.is_dir():
        raise UserError(
            f"there is no {folder}: install Debian's package dataset-fashion-mnist, "
            f"or put {data.origin} into a folder fashion-mnist inside --data.root"
        )
    splits = data.reader(folder)
    return {
        "train": _shuffled_slice(splits["train"], 0, TRAIN),
        "val": _shuffled_slice(splits["train"], TRAIN, VAL),
        "test": _shuffled_slice(splits["test"], 0, TEST),
    }


def _shuffled_slice(source: Source, start: int, size: int) -> Subset:
    """Up to `size` images from position `start` of a fixed shuffle of the source."""
    positions = np.arange(start, min(start + size, len(source)))
    _, indices = sample_at(positions, size=len(source), seed=0)
    return Subset(source=source, indices=indices)


def open_textures(root: Path | None) -> dict[str, Source]:
    """Which of ten textures."""
    return _drawn("mini-textures", draw_texture, tuple(TEXTURES))


def open_tissue(root: Path | None) -> dict[str, Source]:
    """Whether any nucleus in the centre is diseased."""
    return _drawn("mini-tissue", draw_tissue, ("healthy", "sick"))


def open_count(root: Path | None) -> dict[str, Source]:
    """Number of solids."""
    return _drawn("mini-count", draw_count, tuple(str(count) for count in COUNTS))


def open_distance(root: Path | None) -> dict[str, Source]:
    """Range of the nearest solid's depth."""
    return _drawn("mini-distance", draw_distance, tuple(f"{low:g} to {high:g}" for low, high in pairwise(THRESHOLDS)))


def open_location(root: Path | None) -> dict[str, Source]:
    """Horizontal position of a sprite."""
    class_of = tuple(location_class(place) for place in range(PLACES))
    return _drawn("mini-location", draw_location, _numbers(16), class_of)


def open_orientation(root: Path | None) -> dict[str, Source]:
    """Rotation of a sprite."""
    class_of = tuple(orientation_class(turn) for turn in range(TURNS))
    return _drawn("mini-orientation", draw_orientation, _numbers(16), class_of)


def open_azimuth(root: Path | None) -> dict[str, Source]:
    """Side from which a toy is seen."""
    return _drawn("mini-azimuth", draw_azimuth, tuple(f"{angle}°" for angle in AZIMUTHS))


def open_elevation(root: Path | None) -> dict[str, Source]:
    """Height from which a toy is seen."""
    return _drawn("mini-elevation", draw_elevation, tuple(f"{angle}°" for angle in ELEVATIONS))


def _drawn(
    name: str, draw: Drawing, classes: tuple[str, ...], class_of: tuple[int, ...] | None = None
) -> dict[str, Source]:
    """A task whose images are drawn.

    Args:
        name: the task's name, which seeds its random numbers.
        draw: draws one image.
        classes: names of the classes.
        class_of: class of each value of the factor that `draw` takes; None: the factor is the class.
    """
    source = drawn_source(
        name, draw, classes=classes, class_of=class_of or tuple(range(len(classes))), size=TRAIN + VAL + TEST
    )
    return {
        "train": Subset(source=source, indices=np.arange(TRAIN)),
        "val": Subset(source=source, indices=np.arange(TRAIN, TRAIN + VAL)),
        "test": Subset(source=source, indices=np.arange(TRAIN + VAL, TRAIN + VAL + TEST)),
    }


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(str(label) for label in range(count))
