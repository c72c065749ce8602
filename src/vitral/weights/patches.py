"""The first layer's weights for patches of another size and images of other channels."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

__all__ = ["adapt_channels", "resize_patches"]


def resize_patches(weight: Float[Tensor, "d c p q"], patch_hw: tuple[int, int]) -> Float[Tensor, "d c p2 q2"]:
    """Weights that make of a resized patch what the given ones make of the patch (FlexiViT, arXiv 2212.08013, Eq. 3).

    Resizing a patch is a matrix B on its pixels, here bilinear with antialiasing. The new weights are the
    pseudo-inverse of B transposed times the old: exact for enlarged patches, and the closest on white noise for shrunk.
    """
    p, q = weight.shape[2:]
    if (p, q) == patch_hw:
        return weight
    single = torch.eye(p * q, dtype=torch.float64, device=weight.device).reshape(p * q, 1, p, q)
    resized = F.interpolate(single, size=patch_hw, mode="bilinear", align_corners=False, antialias=True)
    inverse = torch.linalg.pinv(rearrange(resized, "pq 1 p2 q2 -> pq (p2 q2)"))
    new = inverse @ rearrange(weight.double(), "d c p q -> (p q) (d c)")
    return rearrange(new, "(p2 q2) (d c) -> d c p2 q2", d=len(weight), q2=patch_hw[1]).to(weight.dtype)


def adapt_channels(weight: Float[Tensor, "d c p q"], channels: int) -> Float[Tensor, "d c2 p q"]:
    """Weights for images of another number of channels.

    A single channel gets the sum of all, so that a grey image gives what it gave as so many equal channels. Several
    take the given ones in turn, scaled by old / new, so that sums keep their size.

    A hybrid's or ResNet's root convolution standardises its filters before use: there only the pattern counts, and a
    grey image gives what it gave up to one factor for each filter.
    """
    own = weight.shape[1]
    if own == channels:
        return weight
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    return weight[:, torch.arange(channels, device=weight.device) % own] * (own / channels)
