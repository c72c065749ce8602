"""Random crops: the part of an image that is decoded, so that only the pixels it keeps are ever resized."""

import math

import numpy as np

from vitral.data.augment.config import AugmentConfig
from vitral.data.augment.names import CROP
from vitral.data.order import AUGMENTATION, uniform

__all__ = ["crop_box"]


def crop_box(
    config: AugmentConfig, size: tuple[int, int], *, seed: int, epoch: int, index: int
) -> tuple[float, float, float, float]:
    """The part of an image to keep, as fractions (left, top, right, bottom).

    The Inception crop: area and aspect ratio are drawn until the crop fits, the aspect evenly in its logarithm;
    after ten misses, the largest central crop of an allowed aspect.

    Args:
        size: width and height of the image in pixels.
    """
    if config.crop == "none":
        return 0.0, 0.0, 1.0, 1.0
    width, height = size
    low, high = (math.log(ratio) for ratio in config.crop_aspect)
    draws = uniform(AUGMENTATION, seed, epoch, index, np.arange(CROP, CROP + 40)).reshape(10, 4)
    for area, aspect, across, down in draws:
        area = config.crop_area[0] + (config.crop_area[1] - config.crop_area[0]) * area
        ratio = math.exp(low + (high - low) * aspect) * height / width
        w, h = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if w <= 1 and h <= 1:
            left, top = (1 - w) * across, (1 - h) * down
            return left, top, left + w, top + h
    ratio = min(max(width / height, config.crop_aspect[0]), config.crop_aspect[1]) * height / width
    w, h = min(1.0, ratio), min(1.0, 1 / ratio)
    return (1 - w) / 2, (1 - h) / 2, (1 + w) / 2, (1 + h) / 2
