"""Normalises retinal photographs in size and brightness.

The method is that of the winner of Kaggle's competition of 2015, which TensorFlow Datasets calls btgraham-300.
"""

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from scipy.ndimage import gaussian_filter

__all__ = ["RADIUS", "eye_radius", "normalise_fundus"]

RADIUS = 300
"""Pixels that the eye's radius is scaled to."""
VISIBLE = 0.9
"""Fraction of the radius inside which the image is not replaced by grey."""
CONTRAST, GREY = 4, 128


def normalise_fundus(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Scales the eye to a radius of 300 pixels, subtracts the local mean, and crops to 90 % of the radius.

    Args:
        image: an eye on black.
    """
    height, width = image.shape[:2]
    scale = RADIUS / eye_radius(image)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    scaled = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR), np.float64)
    blurred = gaussian_filter(scaled, sigma=(RADIUS / 30, RADIUS / 30, 0))
    flat = (CONTRAST * (scaled - blurred) + GREY).clip(0, 255)
    radius = int(RADIUS * VISIBLE)
    top, left = flat.shape[0] // 2, flat.shape[1] // 2
    rows, columns = np.ogrid[: flat.shape[0], : flat.shape[1]]
    inside = (rows - top) ** 2 + (columns - left) ** 2 <= radius**2
    visible = np.where(inside[:, :, None], flat, GREY)
    cropped = visible[max(top - radius, 0) : top + radius, max(left - radius, 0) : left + radius]
    return cropped.round().astype(np.uint8)


def eye_radius(image: UInt8[np.ndarray, "h w 3"]) -> float:
    """Half the number of pixels in the middle row that are not black; half the image's height if that is 0."""
    middle = image[len(image) // 2].sum(1, dtype=np.int64)
    radius = float((middle > middle.mean() / 10).sum() / 2)
    return radius if radius >= 1 else len(image) / 2
