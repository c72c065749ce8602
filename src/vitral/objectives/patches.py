"""Images as patches of pixels, and back; the same patches, in the same order, as the model's tokens."""

import torch
from einops import rearrange
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

__all__ = ["across", "as_pixels", "patchify", "taken", "unpatchify"]


def patchify(images: Float[Tensor, "b c h w"], grid: tuple[int, int]) -> Float[Tensor, "b n c p q"]:
    """Cuts images into `grid` rows and columns of patches, row by row."""
    gh, gw = grid
    return rearrange(images, "b c (gh p) (gw q) -> b (gh gw) c p q", gh=gh, gw=gw)


def unpatchify(patches: Float[Tensor, "b n c p q"], grid: tuple[int, int]) -> Float[Tensor, "b c h w"]:
    """Puts patches together again."""
    gh, gw = grid
    return rearrange(patches, "b (gh gw) c p q -> b c (gh p) (gw q)", gh=gh, gw=gw)


def as_pixels(shares: Float[Tensor, "b c h w"]) -> UInt8[Tensor, "b h w c"]:
    """Values in 0..1 as pixels, on the host."""
    pixels = shares.clamp(0, 1).mul(255).round().to(torch.uint8).cpu()
    return rearrange(pixels, "b c h w -> b h w c")


def taken(rows: Float[Tensor, "b n *d"], where: Int64[Tensor, "b m"]) -> Float[Tensor, "b m *d"]:
    """The rows of each image that are asked for."""
    return rows.gather(1, across(where, rows))


def across(where: Int64[Tensor, "b m"], rows: Float[Tensor, "b n *d"]) -> Int64[Tensor, "b m *d"]:
    """Indices of whole rows."""
    extra = rows.shape[2:]
    return where.reshape(*where.shape, *(1 for _ in extra)).expand(-1, -1, *extra)
