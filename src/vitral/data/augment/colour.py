"""Colour augmentation of uint8 images, different for each image: DeiT III's 3-Augment, and colour jitter."""

from itertools import permutations

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Float32, Float64, Int64, UInt8
from torch import Tensor

__all__ = ["LUMA", "gaussian_blur", "jitter", "three_augment"]

Images = UInt8[Tensor, "b c h w"]
LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601), as in torchvision."""
BLUR_RADIUS = 6
"""Radius of the blur kernel in pixels: three standard deviations of the widest."""


def three_augment(images: Images, uniforms: Float64[np.ndarray, "b 2"]) -> Images:
    """Greyscale, solarisation or Gaussian blur with equal probability (DeiT III, arXiv 2204.07118, section 3)."""
    which = (uniforms[:, 0] * 3).astype(int)
    deviation = (0.1 + 1.9 * uniforms[:, 1]).astype(np.float32)
    out = images.clone()
    for kind, change in enumerate((_greyscale, _solarise, _blur)):
        rows, amount = _select(which == kind, deviation, images.device)
        if len(rows):
            out[rows] = change(out[rows], amount)
    return out


def jitter(images: Images, uniforms: Float64[np.ndarray, "b 6"], *, strength: float) -> Images:
    """Scales brightness, contrast and saturation by factors in 1 - strength .. 1 + strength, in random order."""
    factors = (1 + strength * (2 * uniforms[:, :3] - 1)).astype(np.float32)
    orders = np.array(list(permutations(range(3))))
    order = orders[(uniforms[:, 3] * len(orders)).astype(int)]
    out = images.clone()
    for turn in range(3):
        for kind, towards in enumerate((_black, _mean_grey, _grey)):
            rows, factor = _select(order[:, turn] == kind, factors[:, kind], images.device)
            if len(rows):
                selected, factor = out[rows], factor[:, None, None, None]
                changed = torch.lerp(towards(selected), selected.float(), factor)
                out[rows] = changed.clamp_(0, 255).to(torch.uint8)
    return out


def _select(
    mask: Bool[np.ndarray, " b"], amounts: Float32[np.ndarray, " b"], device: torch.device
) -> tuple[Int64[Tensor, " n"], Float[Tensor, " n"]]:
    """The rows of the mask and their amounts, on a device."""
    rows = np.flatnonzero(mask)
    both = torch.from_numpy(rows), torch.from_numpy(amounts[rows])
    return both[0].to(device, non_blocking=True), both[1].to(device, non_blocking=True)


def _greyscale(images: Images, _: Float[Tensor, " b"]) -> Images:
    return _grey(images).expand(images.shape).to(torch.uint8)


def _solarise(images: Images, _: Float[Tensor, " b"]) -> Images:
    return torch.where(images < 128, images, 255 - images)


def _black(images: Images) -> Float[Tensor, "b 1 1 1"]:
    return torch.zeros(len(images), 1, 1, 1, device=images.device)


def _mean_grey(images: Images) -> Float[Tensor, "b 1 1 1"]:
    return _grey(images).mean(dim=(1, 2, 3), keepdim=True)


def _grey(images: Images) -> Float[Tensor, "b 1 h w"]:
    """Rounded down to whole levels, as in torchvision; a grey image is returned as it is."""
    if images.shape[1] != 3:
        return images.float()
    red, green, blue = (plane * weight for plane, weight in zip(images.split(1, 1), LUMA, strict=True))
    return red.add_(green).add_(blue).floor_()


def _blur(images: Images, deviation: Float[Tensor, " b"]) -> Images:
    return gaussian_blur(images.float(), deviation).round().clamp(0, 255).to(torch.uint8)


def gaussian_blur(images: Float[Tensor, "b c h w"], deviation: Float[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
    """Gaussian blur with a standard deviation for each image, up to 2 pixels; borders are reflected."""
    offsets = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, device=images.device)
    kernels = torch.exp(-0.5 * (offsets / deviation[:, None]) ** 2)
    kernels = rearrange(kernels / kernels.sum(1, keepdim=True), "b k -> b 1 k")
    b, c, h, w = images.shape
    pad = min(BLUR_RADIUS, h - 1, w - 1)
    kernels = kernels[..., BLUR_RADIUS - pad : BLUR_RADIUS + pad + 1]
    kernels = kernels / kernels.sum(-1, keepdim=True)
    padded = F.pad(images, (pad, pad, pad, pad), mode="reflect")
    columns = rearrange(padded, "b c h w -> 1 b (c h) w")
    across = F.conv2d(columns, rearrange(kernels, "b one k -> b one 1 k"), groups=b)
    lines = rearrange(across, "1 b (c h) w -> 1 b h (c w)", c=c)
    down = F.conv2d(lines, rearrange(kernels, "b one k -> b one k 1"), groups=b)
    return rearrange(down, "1 b h (c w) -> b c h w", c=c)
