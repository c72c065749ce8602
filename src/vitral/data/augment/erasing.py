"""Random erasing: a rectangle of an image is filled (Zhong et al., arXiv 1708.04896)."""

import math

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

__all__ = ["erased", "rectangle"]

AREA = (0.02, 1 / 3)
ASPECT = (0.3, 10 / 3)


def erased(
    images: Float[Tensor, "b c h w"], numbers: Float64[np.ndarray, "b 42"], *, chance: float, fill: str
) -> Float[Tensor, "b c h w"]:
    """Fills a rectangle in each image that its first number chooses, with 0 or with normal noise.

    Args:
        images: standardised, so that 0 is the mean.
        numbers: in [0, 1): whether, the seed of the noise, then four for each of ten attempts.
        chance: of being erased.
        fill: `mean` or `noise`.
    """
    out = images.clone()
    height, width = images.shape[2:]
    for row in np.flatnonzero(numbers[:, 0] < chance):
        found = rectangle(numbers[row, 2:], height, width)
        if found is None:
            continue
        top, left, h, w = found
        patch = torch.zeros(images.shape[1], h, w)
        if fill == "noise":
            patch.normal_(generator=torch.Generator().manual_seed(int(numbers[row, 1] * 2**53)))
        out[row, :, top : top + h, left : left + w] = patch.to(images.device, non_blocking=True)
    return out


def rectangle(numbers: Float64[np.ndarray, " 40"], height: int, width: int) -> tuple[int, int, int, int] | None:
    """Top, left, height and width in pixels: area evenly, aspect evenly in its logarithm; None after ten misses."""
    low, high = map(math.log, ASPECT)
    for area, aspect, down, across in numbers.reshape(10, 4):
        pixels = (AREA[0] + (AREA[1] - AREA[0]) * area) * height * width
        ratio = math.exp(low + (high - low) * aspect)
        h, w = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < h < height and 0 < w < width:
            return int(down * (height - h + 1)), int(across * (width - w + 1)), h, w
    return None
