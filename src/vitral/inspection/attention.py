"""Attention weights of a model, recomputed outside it, and maps and distances derived from them."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vitral.data.images.patch_rows import Images
from vitral.errors import UserError
from vitral.layers.positions import PositionState
from vitral.vit import ViT

__all__ = [
    "attention_distance",
    "attention_over_image",
    "attention_weights",
    "block_with_weights",
    "check_global",
    "rollout",
]


@torch.no_grad()
def attention_weights(model: ViT, images: Images) -> list[Float[Tensor, "b heads t t"]]:
    """The weights A of Eq. 6 in each block, in order; rows sum to 1.

    The model never computes them itself, because its attention is one fused operation. Call `model.eval()` first, or
    dropout applies.

    Args:
        model: the model.
        images: normalised, as for its `forward`.

    Raises:
        UserError: attention is axial, not among all tokens.
    """
    check_global(model)
    x, positions = model.embed(images)
    weights = []
    for block, pos in zip(model.blocks, positions, strict=True):
        x, attention = block_with_weights(block, x, pos)
        weights.append(attention)
    return weights


def check_global(model: ViT) -> None:
    """Checks that a model attends among all tokens.

    Raises:
        UserError: attention is axial.
    """
    if model.config.attention != "global":
        raise UserError("this model attends along rows and columns, so it has no attention weights between all tokens")


def block_with_weights(
    block: Any, x: Float[Tensor, "b t d"], pos: PositionState, *, track: bool = False
) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b heads t t"]]:
    """The output of a block in evaluation mode, and the weights that it computes inside its fused attention.

    Args:
        block: of a model with global attention.
        x: its input.
        pos: its positions.
        track: whether the weights get gradients even where no parameter does.
    """
    x = pos.add(x)
    q, k, v = block.attn.project_qkv(block.norm1(x))
    q, k = pos.rotate(q, k)
    bias = pos.bias(q)
    logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if bias is not None:
        logits = logits.masked_fill(~bias, -math.inf) if bias.dtype is torch.bool else logits + bias
    weights = logits.softmax(dim=-1)
    if track and not weights.requires_grad:
        weights.requires_grad_()
    mixed = block.attn.proj(rearrange(weights @ v, "b heads t k -> b t (heads k)"))
    x = x + block.ls1(mixed)
    return x + block.ls2(block.mlp(block.norm2(x))), weights


def rollout(weights: Sequence[Float[Tensor, "b heads t t"]]) -> Float[Tensor, "b t t"]:
    """Attention from each output token to each input token through all blocks (appendix D.8); rows sum to 1.

    In each block the heads are averaged and the identity is added for the residual connection. Then the matrices of all
    blocks are multiplied.
    """
    identity = torch.eye(weights[0].shape[-1], device=weights[0].device)
    result = identity.expand(len(weights[0]), -1, -1)
    for layer in weights:
        mixed = layer.mean(dim=1) + identity
        result = mixed / mixed.sum(dim=-1, keepdim=True) @ result
    return result


def attention_over_image(
    attention: Float[Tensor, "b t t"], *, grid: tuple[int, int], queries: slice
) -> Float[Tensor, "b {grid[0]} {grid[1]}"]:
    """Fraction of attention that each patch receives from the tokens that represent the image.

    These are the class token, or all patches if pooling takes their mean.

    Args:
        attention: rows that sum to 1, of one block (averaged over heads) or of the rollout.
        grid: rows and columns of patches.
        queries: the tokens that represent the image, `ViT.pool_tokens`.
    """
    patches = _first_patch(attention, grid)
    return attention[:, queries, patches:].mean(dim=1).unflatten(1, grid)


def attention_distance(
    weights: Float[Tensor, "b heads t t"], *, grid: tuple[int, int], patch_size: tuple[int, int]
) -> Float[Tensor, " heads"]:
    """Mean attention distance of each head in input pixels, over images and query patches (appendix D.7).

    It is the distance between the centres of two patches, weighted by attention. Class token and registers are left out
    as queries; as keys they count with distance 0.

    Args:
        weights: attention weights of one block.
        grid: rows and columns of patches.
        patch_size: height and width of a patch in pixels.
    """
    first = _first_patch(weights, grid)
    (gh, gw), (p, q) = grid, patch_size
    rows, columns = torch.arange(gh) * float(p), torch.arange(gw) * float(q)
    centres = torch.cartesian_prod(rows, columns).to(weights.device)
    patches = weights[:, :, first:, first:]
    return (patches * torch.cdist(centres, centres)).sum(dim=-1).mean(dim=(0, 2))


def _first_patch(attention: Tensor, grid: tuple[int, int]) -> int:
    """Number of tokens before the patches."""
    count = attention.shape[-1] - grid[0] * grid[1]
    assert count >= 0, f"{attention.shape[-1]} tokens are fewer than a {grid[0]}x{grid[1]} grid"
    return count
