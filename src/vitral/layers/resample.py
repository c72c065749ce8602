"""Interpolation of learned positions to another grid of patches, as each code base does it."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["RESAMPLERS", "is_symbolic", "resample_grid", "resample_line"]

Resampler = Callable[[Tensor, tuple[int, int]], Tensor]


def is_symbolic(*lengths: int) -> bool:
    """Whether a length is any length: that of a graph exported for images of every size.

    A graph must not compare it with the model's own, or it would take images of one size only. Each interpolation
    returns the vectors of its own grid unchanged, up to rounding.
    """
    return any(isinstance(length, torch.SymInt) for length in lengths)


def _interpolate(
    grid: Float[Tensor, "n d gh gw"], size: tuple[int, int], *, mode: str, corners: bool, antialias: bool = False
) -> Float[Tensor, "n d gh2 gw2"]:
    return F.interpolate(grid, size=size, mode=mode, align_corners=corners, antialias=antialias)


def _interpolate_with_offset(grid: Float[Tensor, "n d gh gw"], size: tuple[int, int]) -> Float[Tensor, "n d gh2 gw2"]:
    """DINOv2's: the scale factor is that of a grid larger by a tenth of a patch, a guard against rounding errors."""
    if is_symbolic(*size):
        lengths = [(old, new, grid.new_full((), new)) for old, new in zip(grid.shape[2:], size, strict=True)]
        own = torch.stack([length == old for old, _, length in lengths]).all()  # DINOv2 leaves its own grid as it is
        rows, columns = (_cubic_weights(old, new, own, like=grid) for old, new, _ in lengths)
        return rows @ grid @ columns.mT
    scale = tuple((new + 0.1) / old for new, old in zip(size, grid.shape[2:], strict=True))
    return F.interpolate(grid, scale_factor=scale, mode="bicubic", align_corners=False)


def _cubic_weights(old: int, new: int, own: Bool[Tensor, ""], *, like: Tensor) -> Float[Tensor, "new old"]:
    """Weights of `_interpolate_with_offset` along one axis for a symbolic length, for which `F.interpolate` has none.

    Each row holds the four weights of Keys' kernel with a = -0.75; those beyond the edge are the edge's. With `own`,
    points stay where they are.
    """
    targets = torch.arange(new, device=like.device, dtype=like.dtype)
    points = torch.where(own, targets, (targets + 0.5) * old / (new + 0.1) - 0.5)
    taps = points.floor()[:, None] + torch.arange(-1, 3, device=like.device, dtype=like.dtype)
    distance = (points[:, None] - taps).abs()
    near = (1.25 * distance - 2.25) * distance**2 + 1
    far = ((-0.75 * distance + 3.75) * distance - 6) * distance + 3
    weights = torch.where(distance <= 1, near, far)
    at_edge = taps.clamp(0, old - 1)[..., None] == torch.arange(old, device=like.device, dtype=like.dtype)
    return (weights[..., None] * at_edge).sum(dim=1)


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
    if not is_symbolic(*size) and tuple(grid.shape[1:3]) == size:
        return grid
    precise = grid.to(torch.promote_types(grid.dtype, torch.float32))
    resampled = RESAMPLERS[method](rearrange(precise, "n gh gw d -> n d gh gw"), size)
    return rearrange(resampled, "n d gh gw -> n gh gw d").to(grid.dtype)


def resample_line(line: Float[Tensor, "*n length d"], length: int) -> Float[Tensor, "*n length2 d"]:
    """Interpolates vectors on a line linearly to another length, with aligned ends.

    If both lengths are odd, the middle vectors are aligned too. A line of length 1 is the first vector, as in Google's.
    """
    if not is_symbolic(length) and line.shape[-2] == length:
        return line
    rows = line.reshape(-1, *line.shape[-2:]).mT
    resampled = F.interpolate(rows, size=length, mode="linear", align_corners=True)
    return resampled.mT.reshape(*line.shape[:-2], length, line.shape[-1])
