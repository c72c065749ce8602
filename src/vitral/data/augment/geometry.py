"""Flips and affine warps, different for each image."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from vitral.data.images.preprocess import PixelBatch

__all__ = ["flip", "warp"]


def flip(images: PixelBatch, flips: Bool[Tensor, " b"], *, axis: int = 2) -> PixelBatch:
    """Flips the images selected by the mask `flips` (on the host) horizontally, or vertically with axis 1."""
    rows = flips.nonzero()[:, 0].to(images.device, non_blocking=True)
    return images.index_copy(0, rows, images[rows].flip(axis))


def warp(images: Float[Tensor, "b c h w"], warps: Float32[Tensor, "b 2 3"]) -> Float[Tensor, "b c h w"]:
    """Shifts, rotates and scales each image about its centre, bilinearly; outside the image is 0."""
    h, w = images.shape[-2:]
    # created on the device: a copy from the host would synchronise
    half = torch.stack([torch.full((), size / 2, device=images.device) for size in (w, h)])
    scale = torch.cat([half, half.new_ones(1)]) / half[:, None]  # pixels to the -1..1 coordinates of grid_sample
    grid = F.affine_grid(warps * scale, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid.to(images.dtype), align_corners=False)
