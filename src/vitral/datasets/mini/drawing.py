"""What all drawn tasks share: their random numbers, their canvas, and a source that draws when asked."""

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
"""The suite is one fixed set of images, as any benchmark."""

Picture = Float64[np.ndarray, "64 64 3"]
"""Red, green and blue in 0..1."""

Option = TypeVar("Option")

Drawing = Callable[[str, int, int], Picture]
"""From a task's title, an image's index and what it must show to the picture."""


def numbers(task: str, index: int, count: int) -> Float64[np.ndarray, " count"]:
    """Numbers in [0, 1), functions of the task, the image and their own place alone."""
    return uniform(DRAWING, SEED, _word(task), index, np.arange(count))


def between(low: float, high: float, share: float) -> float:
    """From `low` at a share of 0 to `high` at 1."""
    return low + (high - low) * float(share)


def pick(options: Iterable[Option], share: float) -> Option:
    """One of some options, the first at a share of 0, the last below 1."""
    choices = tuple(options)
    return choices[int(share * len(choices))]


def colour(hue: float, saturation: float, value: float) -> Float64[np.ndarray, "3"]:
    """Red, green and blue of a hue in 0..1."""
    return np.array(colorsys.hsv_to_rgb(float(hue), float(saturation), float(value)))


def samples(per_pixel: int) -> Float64[np.ndarray, " n"]:
    """Places along an axis of the canvas, in pixels, the centre of pixel 0 at 0.5: evenly `per_pixel` in each."""
    return (np.arange(SIZE * per_pixel) + 0.5) / per_pixel


def shrink(sampled: Float64[np.ndarray, "H W 3"] | Bool[np.ndarray, "H W 1"]) -> Float64[np.ndarray, "64 64 c"]:
    """The mean of all samples in each pixel, so that edges are smooth."""
    per_pixel = len(sampled) // SIZE
    return reduce(sampled.astype(np.float64), "(h sh) (w sw) c -> h w c", "mean", sh=per_pixel, sw=per_pixel)


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnSource:
    """Images drawn when asked for; a process remembers the last 4,096, more than a task has."""

    title: str
    """What the images are called, and the word that their random numbers depend on."""
    classes: tuple[str, ...]
    factors: Int64[np.ndarray, " n"]
    """What each image must show, such as a sprite's place; several may make one class."""
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
    """A source of `size` images that show every factor as often as any other, to within one image.

    Args:
        title: see `DrawnSource`.
        draw: see `DrawnSource`.
        classes: their names.
        class_of: class of each factor.
        size: number of images.
    """
    # an endless run through the factors, in another order each time
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
