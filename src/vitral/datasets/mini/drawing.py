"""Parts of all drawn tasks: random numbers, the canvas, and a source that draws images on access."""

import colorsys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TypeVar

import numpy as np
from einops import reduce
from jaxtyping import Bool, Float64, Int64, UInt8
from PIL import Image

from vitral.data.order import DRAWING, random_bits, sample_at, uniform

__all__ = [
    "SIZE",
    "Drawing",
    "DrawnSource",
    "Picture",
    "between",
    "colour",
    "drawn_source",
    "numbers",
    "pick",
    "samples",
    "shrink",
]

SIZE = 64
"""Height and width of every drawn image, in pixels."""

SEED = 0
"""The suite is one fixed set of images, like any benchmark."""

Picture = Float64[np.ndarray, "64 64 3"]
"""Red, green and blue in 0..1."""

Option = TypeVar("Option")

Drawing = Callable[[str, int, int], Picture]
"""From a task's title, an image's index and its factor (what it must show) to the picture."""


def numbers(task: str, index: int, count: int) -> Float64[np.ndarray, " count"]:
    """Uniform numbers in [0, 1), functions of the task, the image and their position only."""
    return uniform(DRAWING, SEED, _word(task), index, np.arange(count))


def between(low: float, high: float, fraction: float) -> float:
    """Linear interpolation from `low` (fraction 0) to `high` (1)."""
    return low + (high - low) * float(fraction)


def pick(options: Iterable[Option], fraction: float) -> Option:
    """Maps a fraction in [0, 1) to one of the options."""
    choices = tuple(options)
    return choices[int(fraction * len(choices))]


def colour(hue: float, saturation: float, value: float) -> Float64[np.ndarray, "3"]:
    """Red, green and blue of a hue in 0..1."""
    return np.array(colorsys.hsv_to_rgb(float(hue), float(saturation), float(value)))


def samples(per_pixel: int) -> Float64[np.ndarray, " n"]:
    """Coordinates of `per_pixel` samples in each pixel of an axis, in pixels; the centre of pixel 0 is 0.5."""
    return (np.arange(SIZE * per_pixel) + 0.5) / per_pixel


def shrink(sampled: Float64[np.ndarray, "H W 3"] | Bool[np.ndarray, "H W 1"]) -> Float64[np.ndarray, "64 64 c"]:
    """Averages the samples of each pixel, so that edges are smooth."""
    per_pixel = len(sampled) // SIZE
    return reduce(sampled.astype(np.float64), "(h sh) (w sw) c -> h w c", "mean", sh=per_pixel, sw=per_pixel)


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnSource:
    """Images that are drawn on access; each process caches the last 4,096, more than a task has."""

    title: str
    """Name of the images, which also seeds their random numbers."""
    classes: tuple[str, ...]
    factors: Int64[np.ndarray, " n"]
    """What each image must show, such as a sprite's position; several factors may belong to one class."""
    labels: Int64[np.ndarray, " n"]
    draw: Drawing

    def __len__(self) -> int:
        return len(self.labels)

    def stored(self, index: int) -> Image.Image:
        """See `Source`."""
        return Image.fromarray(_pixels(self.draw, self.title, index, int(self.factors[index])))

    def name(self, index: int) -> str:
        """See `Source`."""
        return f"{self.title}[{index}]"


def drawn_source(
    title: str, draw: Drawing, *, classes: tuple[str, ...], class_of: tuple[int, ...], size: int
) -> DrawnSource:
    """A source of `size` images with every factor equally often, to within one image.

    Args:
        title: see `DrawnSource`.
        draw: see `DrawnSource`.
        classes: their names.
        class_of: class of each factor.
        size: number of images.
    """
    # an endless pass through the factors, shuffled anew each time
    _, factors = sample_at(np.arange(size), size=len(class_of), seed=_word(title))
    return DrawnSource(title=title, classes=classes, factors=factors, labels=np.array(class_of)[factors], draw=draw)


@lru_cache(maxsize=1 << 12)
def _pixels(draw: Drawing, title: str, index: int, factor: int) -> UInt8[np.ndarray, "64 64 3"]:
    return np.rint(draw(title, index, factor).clip(0, 1) * 255).astype(np.uint8)


@cache
def _word(title: str) -> int:
    """A task's title as an integer below 2**63."""
    letters = np.frombuffer(title.encode(), np.uint8).astype(np.int64)
    return int(random_bits(*letters.tolist())[0] >> np.uint64(1))
