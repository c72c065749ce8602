"""Augmentation: drawn by arithmetic on (seed, epoch, sample), applied to whole batches on the device.

The crop alone is applied where an image is decoded, so that only the pixels it keeps are ever resized.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Float64, Int64, UInt8
from torch import Tensor

from vitral.data.order import AUGMENTATION, uniform

__all__ = ["AugmentConfig", "Draws", "crop_box", "draw", "flip", "warp"]


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How training images vary. The defaults change nothing.

    Raises:
        ValueError: a value is out of range.
    """

    crop: Literal["none", "inception"] = "none"
    """`inception`: a random part of the image, resized to the model's size."""
    crop_area: tuple[float, float] = (0.05, 1.0)
    """Smallest and largest share of the image's area that the crop keeps."""
    crop_aspect: tuple[float, float] = (3 / 4, 4 / 3)
    """Smallest and largest width over height of the crop."""
    flip: bool = False
    """Mirror each image with probability one half, left to right."""
    shift: int = 0
    """Largest shift along each axis, in whole pixels; what comes in is black."""
    rotate: float = 0.0
    """Largest rotation, in degrees."""
    scale: float = 0.0
    """Largest change of size: 0.1 is from 10 % smaller to 10 % larger."""

    def __post_init__(self) -> None:
        if not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
            raise ValueError(f"crop_area must be two shares with 0 < smallest <= largest <= 1, not {self.crop_area}")
        if not 0 < self.crop_aspect[0] <= self.crop_aspect[1] < math.inf:
            raise ValueError(f"crop_aspect must be two ratios with 0 < smallest <= largest, not {self.crop_aspect}")
        if self.shift < 0 or not 0 <= self.rotate < math.inf:
            raise ValueError(f"shift and rotate must be at least 0, not {self.shift} and {self.rotate}")
        if not 0 <= self.scale < 1:
            raise ValueError(f"scale must be at least 0 and below 1, not {self.scale}")

    @property
    def warps(self) -> bool:
        """Whether images are shifted, rotated or scaled."""
        return bool(self.shift or self.rotate or self.scale)


@dataclass(frozen=True, kw_only=True)
class Draws:
    """The randomness of one batch's augmentation."""

    flips: Bool[Tensor, " b"]
    """Which images are mirrored."""
    warps: Float32[Tensor, "b 2 3"] | None
    """From output to input coordinates in pixels around the centre; None where nothing warps."""

    def pin_memory(self) -> "Draws":
        """A copy in page-locked memory."""
        return type(self)(flips=self.flips.pin_memory(), warps=None if self.warps is None else self.warps.pin_memory())


def draw(config: AugmentConfig, *, seed: int, epoch: Int64[np.ndarray, " b"], index: Int64[np.ndarray, " b"]) -> Draws:
    """Draws mirroring and warps for the samples `index` of the epochs `epoch`."""

    def signed(name: int) -> Float64[np.ndarray, " b"]:
        return 2 * uniform(AUGMENTATION, seed, epoch, index, name) - 1

    flips = torch.from_numpy(config.flip & (signed(0) < 0))
    if not config.warps:
        return Draws(flips=flips, warps=None)
    angle = np.radians(config.rotate) * signed(1)
    zoom = 1 / (1 + config.scale * signed(2))
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    steps = config.shift + 0.5
    dx, dy = (np.rint(np.clip(steps * signed(name), -config.shift, config.shift)) for name in (3, 4))
    rows = np.stack([cos, -sin, dx, sin, cos, dy], axis=1).reshape(-1, 2, 3)
    return Draws(flips=flips, warps=torch.from_numpy(rows.astype(np.float32)))


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
    draws = uniform(AUGMENTATION, seed, epoch, index, np.arange(5, 45)).reshape(10, 4)
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


def flip(images: UInt8[Tensor, "b h w c"], flips: Bool[Tensor, " b"]) -> UInt8[Tensor, "b h w c"]:
    """Mirrors the images that `flips` names, left to right."""
    return torch.where(flips[:, None, None, None], images.flip(2), images)


def warp(images: Float[Tensor, "b c h w"], warps: Float32[Tensor, "b 2 3"]) -> Float[Tensor, "b c h w"]:
    """Shifts, rotates and scales each image about its centre, bilinearly; outside the image is 0."""
    h, w = images.shape[-2:]
    # written on the device itself: copying from the host would make it wait
    half = torch.stack([torch.full((), size / 2, device=images.device) for size in (w, h)])
    scale = torch.cat([half, half.new_ones(1)]) / half[:, None]  # pixels to the -1..1 coordinates of grid_sample
    grid = F.affine_grid(warps * scale, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid.to(images.dtype), align_corners=False)
