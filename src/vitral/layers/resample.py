"""Interpolation of learned positions to another grid of patches, as each code base does it."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

__all__ = ["RESAMPLERS", "resample_grid", "resample_line"]

Resampler = Callable[[Tensor, tuple[int, int]], Tensor]


def _interpolate(
    grid: Float[Tensor, "n d gh gw"], size: tuple[int, int], *, mode: str, corners: bool, antialias: bool = False
) -> Float[Tensor, "n d gh2 gw2"]:
    return F.interpolate(grid, size=size, mode=mode, align_corners=corners, antialias=antialias)


def _interpolate_with_offset(grid: Float[Tensor, "n d gh gw"], size: tuple[int, int]) -> Float[Tensor, "n d gh2 gw2"]:
    """DINOv2's: the scale factor is that of a grid larger by a tenth of a patch, a guard against rounding errors."""
    scale = tuple((new + 0.1) / old for new, old in zip(size, grid.shape[2:], strict=True))
    return F.interpolate(grid, scale_factor=scale, mode="bicubic", align_corners=False)


RESAMPLERS: dict[str, Resampler] = {
    "google": partial(_interpolate, mode="bilinear", corners=True),
    "timm": partial(_interpolate, mode="bicubic", corners=False, antialias=True),
    "huggingface": partial(_interpolate, mode="bicubic", corners=False),
    "torchvision": partial(_interpolate, mode="bicubic", corners=True),
    "dinov2": _interpolate_with_offset,
    "mae": partial(_interpolate, mode="bicubic", corners=False),
}
"""Google's and torchvision's align corners, as `scipy.ndimage.zoom` does; the others align edges of patches."""


def resample_grid(
    grid: Float[Tensor, "n gh gw d"], size: tuple[int, int], *, method: str
) -> Float[Tensor, "n gh2 gw2 d"]:
    """Interpolates vectors on a grid to another grid; returns the same grid unchanged.

    Half precision is interpolated in float32, as in timm and DINOv2; antialiasing on a CPU does not support it.

    Args:
        grid: one vector per patch.
        size: new rows and columns.
        method: a name in `RESAMPLERS`.
    """
    if tuple(grid.shape[1:3]) == size:
        return grid
    precise = grid.to(torch.promote_types(grid.dtype, torch.float32))
    resampled = RESAMPLERS[method](rearrange(precise, "n gh gw d -> n d gh gw"), size)
    return rearrange(resampled, "n d gh gw -> n gh gw d").to(grid.dtype)


def resample_line(line: Float[Tensor, "*n length d"], length: int) -> Float[Tensor, "*n length2 d"]:
    """Interpolates vectors on a line linearly to another length, with aligned ends.

    If both lengths are odd, the middle vectors are aligned too. A line of length 1 is the first vector, as in Google's.
    """
    if line.shape[-2] == length:
        return line
    rows = line.reshape(-1, *line.shape[-2:]).mT
    resampled = F.interpolate(rows, size=length, mode="linear", align_corners=True)
    return resampled.mT.reshape(*line.shape[:-2], length, line.shape[-1])
