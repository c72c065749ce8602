"""Images as patches of pixels and back, in the order of the model's patch tokens."""

import torch
from einops import rearrange
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

__all__ = ["expand_indices", "gather_tokens", "patchify", "to_uint8", "unpatchify"]


def patchify(images: Float[Tensor, "b c h w"], grid: tuple[int, int]) -> Float[Tensor, "b n c p q"]:
    """Cuts images into `grid` rows and columns of patches, row by row."""
    gh, gw = grid
    return rearrange(images, "b c (gh p) (gw q) -> b (gh gw) c p q", gh=gh, gw=gw)


def unpatchify(patches: Float[Tensor, "b n c p q"], grid: tuple[int, int]) -> Float[Tensor, "b c h w"]:
    """Inverse of `patchify`."""
    gh, gw = grid
    return rearrange(patches, "b (gh gw) c p q -> b c (gh p) (gw q)", gh=gh, gw=gw)


def to_uint8(images: Float[Tensor, "b c h w"]) -> UInt8[Tensor, "b h w c"]:
    """Images in 0..1 as bytes on the CPU."""
    pixels = images.clamp(0, 1).mul(255).round().to(torch.uint8).cpu()
    return rearrange(pixels, "b c h w -> b h w c")


def gather_tokens(tokens: Float[Tensor, "b n *d"], indices: Int64[Tensor, "b m"]) -> Float[Tensor, "b m *d"]:
    """The tokens of each image at its indices."""
    return tokens.gather(1, expand_indices(indices, tokens))


def expand_indices(indices: Int64[Tensor, "b m"], tokens: Float[Tensor, "b n *d"]) -> Int64[Tensor, "b m *d"]:
    """Indices repeated over the other axes of tokens, as `gather` and `scatter` need them."""
    extra = tokens.shape[2:]
    return indices.reshape(*indices.shape, *(1 for _ in extra)).expand(-1, -1, *extra)
