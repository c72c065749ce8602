"""Colours of uint8 images, each image by its own draw: DeiT III's three choices, and jitter."""

from itertools import permutations

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

__all__ = ["jitter", "three_augment"]

Images = UInt8[Tensor, "b c h w"]
LUMA = (0.2989, 0.587, 0.114)
"""Shares of red, green and blue in grey (ITU-R BT.601), as torchvision has them."""
REACH = 6
"""Pixels that a blur reaches: three deviations of the widest."""


def three_augment(images: Images, numbers: Float64[np.ndarray, "b 2"]) -> Images:
    """Greyscale, solarising or Gaussian blur, evenly drawn (DeiT III, arXiv 2204.07118, section 3)."""
    which = torch.from_numpy((numbers[:, 0] * 3).astype(np.int64)).to(images.device, non_blocking=True)
    deviation = torch.from_numpy((0.1 + 1.9 * numbers[:, 1]).astype(np.float32)).to(images.device, non_blocking=True)
    solar = torch.where(images < 128, images, 255 - images)
    blurred = _blurred(images, deviation)
    grey = _grey(images).expand_as(images).round().to(torch.uint8)
    which = which[:, None, None, None]
    return torch.where(which == 0, grey, torch.where(which == 1, solar, blurred))


def jitter(images: Images, numbers: Float64[np.ndarray, "b 6"], *, strength: float) -> Images:
    """Brightness, contrast and saturation by factors within 1 - strength and 1 + strength, in an order of its own."""
    factors = torch.from_numpy((1 + strength * (2 * numbers[:, :3] - 1)).astype(np.float32)).to(images.device)
    orders = np.array(list(permutations(range(3))))
    order = orders[(numbers[:, 3] * len(orders)).astype(int)]
    out = images
    for turn in range(3):
        for kind, towards in enumerate((_black, _mean_grey, _grey)):
            chosen = torch.from_numpy(order[:, turn] == kind).to(images.device)[:, None, None, None]
            factor = factors[:, kind, None, None, None]
            changed = (out * factor + towards(out) * (1 - factor)).clamp(0, 255).to(torch.uint8)
            out = torch.where(chosen, changed, out)
    return out


def _black(images: Images) -> Float[Tensor, "b 1 1 1"]:
    return torch.zeros(len(images), 1, 1, 1, device=images.device)


def _mean_grey(images: Images) -> Float[Tensor, "b 1 1 1"]:
    return _grey(images).mean(dim=(1, 2, 3), keepdim=True)


def _grey(images: Images) -> Float[Tensor, "b 1 h w"]:
    if images.shape[1] != 3:
        return images.float()
    return sum((images[:, channel : channel + 1] * share for channel, share in enumerate(LUMA)), torch.zeros(()))


def _blurred(images: Images, deviation: Float[Tensor, " b"]) -> Images:
    """Gaussian, each image with its own deviation in pixels; borders mirror."""
    reach = torch.arange(-REACH, REACH + 1, device=images.device)
    kernels = torch.exp(-0.5 * (reach / deviation[:, None]) ** 2)
    kernels = rearrange(kernels / kernels.sum(1, keepdim=True), "b k -> b 1 k")
    b, c, h, w = images.shape
    pad = min(REACH, h - 1, w - 1)
    kernels = kernels[..., REACH - pad : REACH + pad + 1]
    kernels = kernels / kernels.sum(-1, keepdim=True)
    padded = F.pad(images.float(), (pad, pad, pad, pad), mode="reflect")
    columns = rearrange(padded, "b c h w -> 1 b (c h) w")
    across = F.conv2d(columns, rearrange(kernels, "b one k -> b one 1 k"), groups=b)
    lines = rearrange(across, "1 b (c h) w -> 1 b h (c w)", c=c)
    down = F.conv2d(lines, rearrange(kernels, "b one k -> b one k 1"), groups=b)
    return rearrange(down, "1 b h (c w) -> b c h w", c=c).round().clamp(0, 255).to(torch.uint8)
