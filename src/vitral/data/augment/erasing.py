"""Random erasing (Zhong et al., arXiv 1708.04896): a rectangle of an image is filled."""

import math

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

__all__ = ["random_erase", "sample_rectangle"]

AREA = (0.02, 1 / 3)
ASPECT = (0.3, 10 / 3)


def random_erase(
    images: Float[Tensor, "b c h w"], uniforms: Float64[np.ndarray, "b 42"], *, probability: float, fill: str
) -> Float[Tensor, "b c h w"]:
    """Fills a rectangle in randomly selected images with 0 or with normal noise.

    Args:
        images: normalised, so that 0 is the mean.
        uniforms: in [0, 1): whether to erase, the seed of the noise, then four for each of ten attempts.
        probability: of erasing.
        fill: `mean` or `noise`.
    """
    out = images.clone()
    height, width = images.shape[2:]
    for row in np.flatnonzero(uniforms[:, 0] < probability):
        rectangle = sample_rectangle(uniforms[row, 2:], height, width)
        if rectangle is None:
            continue
        top, left, h, w = rectangle
        patch = torch.zeros(images.shape[1], h, w)
        if fill == "noise":
            patch.normal_(generator=torch.Generator().manual_seed(int(uniforms[row, 1] * 2**53)))
        out[row, :, top : top + h, left : left + w] = patch.to(images.device, non_blocking=True)
    return out


def sample_rectangle(uniforms: Float64[np.ndarray, " 40"], height: int, width: int) -> tuple[int, int, int, int] | None:
    """Top, left, height and width in pixels: uniform area, log-uniform aspect ratio; None after ten attempts."""
    low, high = map(math.log, ASPECT)
    for area, aspect, down, across in uniforms.reshape(10, 4):
        pixels = (AREA[0] + (AREA[1] - AREA[0]) * area) * height * width
        ratio = math.exp(low + (high - low) * aspect)
        h, w = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < h < height and 0 < w < width:
            return int(down * (height - h + 1)), int(across * (width - w + 1)), h, w
    return None
