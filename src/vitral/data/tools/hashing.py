"""Perceptual hashes: 64 bits that stay nearly the same if an image is recompressed, resized or slightly cropped.

Each bit is whether one of the 8x8 lowest frequencies of the grey image (discrete cosine transform) is above their
median. Crops of the image are hashed too, so that a cropped copy matches a crop of the original.
"""

import numpy as np
from jaxtyping import Bool, Float, UInt8

__all__ = ["SIDE", "VIEWS", "perceptual_hashes"]

SIDE = 64
"""Side of the square thumbnails that are hashed, in pixels."""

FREQUENCIES = 8

CROPS = (0.05, 0.1)
"""Fractions of height and width that are cropped away, from all sides and towards each corner."""

Interval = tuple[float, float]


def _views() -> tuple[tuple[Interval, Interval], ...]:
    """The hashed regions as (top, bottom), (left, right) fractions; the first is the whole image."""
    views: list[tuple[Interval, Interval]] = [((0.0, 1.0), (0.0, 1.0))]
    for cut in CROPS:
        middle, low, high = (cut / 2, 1 - cut / 2), (0.0, 1 - cut), (cut, 1.0)
        views += [(middle, middle), *((rows, columns) for rows in (low, high) for columns in (low, high))]
    return tuple(views)


VIEWS = _views()


def perceptual_hashes(thumbnails: UInt8[np.ndarray, "b side side"]) -> UInt8[np.ndarray, "b views 8"]:
    """64 bits for each view of each image, packed into bytes; the views are `VIEWS`.

    Args:
        thumbnails: grey images, squashed to SIDE x SIDE pixels.
    """
    pixels = thumbnails.astype(np.float32)
    bits = np.stack([_bits(pixels, *view) for view in VIEWS], axis=1)
    return np.packbits(bits, axis=2)


def _bits(pixels: Float[np.ndarray, "b side side"], rows: Interval, columns: Interval) -> Bool[np.ndarray, "b 64"]:
    waves = _waves(*rows) @ pixels @ _waves(*columns).T
    waves = waves.reshape(len(pixels), FREQUENCIES**2)
    # the first is the mean brightness, which is left out of the median
    return waves > np.median(waves[:, 1:], axis=1, keepdims=True)


def _waves(start: float, end: float) -> Float[np.ndarray, "frequencies side"]:
    """Cosines of the lowest frequencies over an interval of the image; pixels at its edges are weighted."""
    edges = np.clip(np.arange(SIDE + 1) / SIDE, start, end)
    weights = np.diff(edges) * SIDE
    positions = ((edges[:-1] + edges[1:]) / 2 - start) / (end - start)
    return (np.cos(np.pi * np.arange(FREQUENCIES)[:, None] * positions) * weights).astype(np.float32)
