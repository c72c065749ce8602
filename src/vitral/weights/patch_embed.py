"""Patch embedding weights for another patch size or another number of channels."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

__all__ = ["adapt_input_conv", "resample_patch_embed"]


def resample_patch_embed(weight: Float[Tensor, "d c p q"], patch_hw: tuple[int, int]) -> Float[Tensor, "d c p2 q2"]:
    """Weights that give a resized patch the same token as before (FlexiViT, arXiv 2212.08013, Eq. 3).

    Resizing a patch multiplies its pixels by a matrix B, here bilinear with antialiasing. The new weights are the
    pseudo-inverse of the transpose of B times the old weights. This is exact for larger patches, and for smaller ones
    the best approximation on white noise.
    """
    p, q = weight.shape[2:]
    if (p, q) == patch_hw:
        return weight
    single = torch.eye(p * q, dtype=torch.float64, device=weight.device).reshape(p * q, 1, p, q)
    resized = F.interpolate(single, size=patch_hw, mode="bilinear", align_corners=False, antialias=True)
    inverse = torch.linalg.pinv(rearrange(resized, "pq 1 p2 q2 -> pq (p2 q2)"))
    new = inverse @ rearrange(weight.double(), "d c p q -> (p q) (d c)")
    return rearrange(new, "(p2 q2) (d c) -> d c p2 q2", d=len(weight), q2=patch_hw[1]).to(weight.dtype)


def adapt_input_conv(weight: Float[Tensor, "d c p q"], channels: int) -> Float[Tensor, "d c2 p q"]:
    """Weights for images with another number of channels.

    One channel: the sum over all channels, so that a grey image gives the same output as its copy in each channel.
    Several channels: the old ones, repeated in order and scaled by old / new, so that the output keeps its scale.

    The root convolution of a hybrid or ResNet standardises its filters, so a grey image gives the same output up to one
    factor per filter.
    """
    old_channels = weight.shape[1]
    if old_channels == channels:
        return weight
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    return weight[:, torch.arange(channels, device=weight.device) % old_channels] * (old_channels / channels)
