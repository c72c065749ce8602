"""Carrying learned positions to another grid of patches, in the way of each code base that does so."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

__all__ = ["RESAMPLERS", "resample_grid", "resample_line"]

Resampler = Callable[[Tensor, tuple[int, int]], Tensor]


def _interpolated(
    grid: Float[Tensor, "n d gh gw"], size: tuple[int, int], *, mode: str, corners: bool, antialias: bool = False
) -> Float[Tensor, "n d gh2 gw2"]:
    return F.interpolate(grid, size=size, mode=mode, align_corners=corners, antialias=antialias)


def _with_offset(grid: Float[Tensor, "n d gh gw"], size: tuple[int, int]) -> Float[Tensor, "n d gh2 gw2"]:
    """DINOv2's: the scale is that of a grid larger by a tenth of a patch, meant to keep the size from being rounded."""
    scale = tuple((wanted + 0.1) / own for wanted, own in zip(size, grid.shape[2:], strict=True))
    return F.interpolate(grid, scale_factor=scale, mode="bicubic", align_corners=False)


RESAMPLERS: dict[str, Resampler] = {
    "google": partial(_interpolated, mode="bilinear", corners=True),
    "timm": partial(_interpolated, mode="bicubic", corners=False, antialias=True),
    "huggingface": partial(_interpolated, mode="bicubic", corners=False),
    "torchvision": partial(_interpolated, mode="bicubic", corners=True),
    "dinov2": _with_offset,
    "mae": partial(_interpolated, mode="bicubic", corners=False),
}
"""Google's keeps the corners in place, as `scipy.ndimage.zoom` of order 1 does, and torchvision's does so too; for the
others a position is the middle of its patch."""


def resample_grid(
    grid: Float[Tensor, "n gh gw d"], size: tuple[int, int], *, method: str
) -> Float[Tensor, "n gh2 gw2 d"]:
    """Interpolates vectors on a grid to another grid; the same grid is returned as it is.

    Half precision is interpolated in single: timm and DINOv2 do so, and antialiasing on a CPU knows no other way.

    Args:
        grid: one vector a patch.
        size: rows and columns wanted.
        method: a name of `RESAMPLERS`.
    """
    if tuple(grid.shape[1:3]) == size:
        return grid
    precise = grid.to(torch.promote_types(grid.dtype, torch.float32))
    resampled = RESAMPLERS[method](rearrange(precise, "n gh gw d -> n d gh gw"), size)
    return rearrange(resampled, "n d gh gw -> n gh gw d").to(grid.dtype)


def resample_line(line: Float[Tensor, "*n length d"], length: int) -> Float[Tensor, "*n length2 d"]:
    """Interpolates vectors on a line to another length, linearly and with its ends kept in place.

    So the middle stays, too, where both lengths are odd. A line of one is the first vector, as on Google's grids.
    """
    if line.shape[-2] == length:
        return line
    rows = line.reshape(-1, *line.shape[-2:]).mT
    resampled = F.interpolate(rows, size=length, mode="linear", align_corners=True)
    return resampled.mT.reshape(*line.shape[:-2], length, line.shape[-1])
