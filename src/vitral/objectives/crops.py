"""Several views of each image, drawn on the batch's own device: what self-distillation compares."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from vitral.objectives.prng import uniforms

__all__ = ["boxes", "view"]

ASPECT = 4 / 3
"""Views are at most as much wider or higher than square."""

NUMBERS = 7
"""Random numbers of each view: area, aspect, place across and down, mirroring, brightness, contrast."""


def view(
    images: Float[Tensor, "b c h w"],
    keys: Int64[Tensor, " b"],
    *,
    number: int,
    area: tuple[float, float],
    size: tuple[int, int],
    jitter: float,
) -> Float[Tensor, "b c p q"]:
    """One random part of each image, mirrored half the time, lighter or darker, of more or less contrast.

    Args:
        images: values in 0..1.
        keys: what each image's random numbers are drawn by.
        number: which view of the image; each has its own randomness.
        area: smallest and largest share of the image.
        size: height and width of the view.
        jitter: brightness and contrast change by up to this share.
    """
    draws = uniforms(keys, NUMBERS, use=number)
    left, top, width, height = boxes(draws, area, wider=images.shape[3] / images.shape[2]).unbind(1)
    mirrored = torch.where(draws[:, 4] < 0.5, -1.0, 1.0)
    zero = torch.zeros_like(left)
    # from the view's -1..1 to the image's
    across = torch.stack([width * mirrored, zero, 2 * left + width - 1], dim=1)
    down = torch.stack([zero, height, 2 * top + height - 1], dim=1)
    grid = F.affine_grid(torch.stack([across, down], dim=1), [len(images), images.shape[1], *size], align_corners=False)
    parts = F.grid_sample(images, grid.to(images.dtype), padding_mode="border", align_corners=False)
    brightness, contrast = (1 + jitter * (2 * draws[:, 5:] - 1)).to(images.dtype)[:, :, None, None, None].unbind(1)
    means = parts.mean((1, 2, 3), keepdim=True)
    return (((parts - means) * contrast + means) * brightness).clamp(0, 1)


def boxes(draws: Float[Tensor, "b n"], area: tuple[float, float], *, wider: float = 1.0) -> Float[Tensor, "b 4"]:
    """Parts of images as left, top, width and height, in shares of the image: area evenly, aspect evenly in its
    logarithm; a side that would not fit is the image's.

    Args:
        draws: in [0, 1): area, aspect, place across, place down.
        area: smallest and largest.
        wider: width over height of the image.
    """
    share = area[0] + (area[1] - area[0]) * draws[:, 0]
    ratio = torch.exp((2 * draws[:, 1] - 1) * math.log(ASPECT)) / wider
    width, height = (share * ratio).sqrt().clamp(max=1), (share / ratio).sqrt().clamp(max=1)
    return torch.stack([(1 - width) * draws[:, 2], (1 - height) * draws[:, 3], width, height], dim=1)
