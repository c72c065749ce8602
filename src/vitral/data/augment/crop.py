"""Random crops: the two published forms of the Inception crop (arXiv 1409.4842), and those of BiT and DeiT III.

A crop is applied when an image is decoded, so that only the pixels inside it are resized.
"""

import math

import numpy as np

from vitral.data.augment.config import AugmentConfig
from vitral.data.order import AUGMENTATION, uniform

__all__ = ["Box", "crop_box", "crop_offset"]

Box = tuple[float, float, float, float]
SQUARE_CROP = 6 / 7
"""Side of BiT's crop, as a fraction of the image's."""
Sample = tuple[int, int, int]
"""Seed, epoch and index."""


def crop_box(config: AugmentConfig, size: tuple[int, int], *, seed: int, epoch: int, index: int) -> Box:
    """The crop of an image, as fractions (left, top, right, bottom).

    Args:
        size: width and height of the image in pixels.
    """
    return _BOXES[config.crop](config, size, (seed, epoch, index))


def crop_offset(*, seed: int, epoch: int, index: int) -> tuple[float, float]:
    """Position of a simple random crop among all that fit, in [0, 1), horizontally and vertically."""
    across, down = uniform(AUGMENTATION, seed, epoch, index, np.arange(500, 502))
    return float(across), float(down)


def _whole(config: AugmentConfig, size: tuple[int, int], sample: Sample) -> Box:
    return 0.0, 0.0, 1.0, 1.0


def _torchvision(config: AugmentConfig, size: tuple[int, int], sample: Sample) -> Box:
    """Uniform area, log-uniform aspect ratio; after ten attempts the largest central crop of an allowed ratio."""
    width, height = size
    low, high = (math.log(ratio) for ratio in config.crop_aspect)
    uniforms = uniform(AUGMENTATION, *sample, np.arange(5, 45)).reshape(10, 4)
    for area, aspect, across, down in uniforms:
        area = config.crop_area[0] + (config.crop_area[1] - config.crop_area[0]) * area
        ratio = math.exp(low + (high - low) * aspect) * height / width
        w, h = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if w <= 1 and h <= 1:
            left, top = (1 - w) * across, (1 - h) * down
            return left, top, left + w, top + h
    ratio = min(max(width / height, config.crop_aspect[0]), config.crop_aspect[1]) * height / width
    w, h = min(1.0, ratio), min(1.0, 1 / ratio)
    return (1 - w) / 2, (1 - h) / 2, (1 + w) / 2, (1 + h) / 2


def _tensorflow(config: AugmentConfig, size: tuple[int, int], sample: Sample) -> Box:
    """Uniform aspect ratio, then a height in whole pixels between those of the smallest and largest area; after a
    hundred attempts the whole image (`tf.image.sample_distorted_bounding_box` without a box).
    """
    width, height = size
    least, most = (fraction * width * height for fraction in config.crop_area)
    low, high = config.crop_aspect
    for aspect, tall, across, down in uniform(AUGMENTATION, *sample, np.arange(100, 500)).reshape(100, 4):
        aspect = low + (high - low) * aspect
        shortest, tallest = round(math.sqrt(least / aspect)), round(math.sqrt(most / aspect))
        if round(tallest * aspect) > width:
            tallest = math.floor((width + 0.4999999) / aspect)
        tallest = min(tallest, height)
        shortest = min(shortest, tallest)
        h = shortest + math.floor(tall * (tallest - shortest + 1))
        w = round(h * aspect)
        if least <= w * h <= most and 0 < w <= width and 0 < h <= height:
            left, top = math.floor(across * (width - w + 1)), math.floor(down * (height - h + 1))
            return left / width, top / height, (left + w) / width, (top + h) / height
    return 0.0, 0.0, 1.0, 1.0


def _square(config: AugmentConfig, size: tuple[int, int], sample: Sample) -> Box:
    """Six sevenths of each side, as when 384 pixels are cropped from 448 (BiT, arXiv 1912.11370)."""
    across, down = (uniform(AUGMENTATION, *sample, np.arange(500, 502)) * (1 - SQUARE_CROP)).tolist()
    return across, down, across + SQUARE_CROP, down + SQUARE_CROP


_BOXES = {"none": _whole, "inception": _torchvision, "inception_tf": _tensorflow, "square": _square}
