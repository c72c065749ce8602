"""Where a model looks: attention weights, computed beside the model, and what follows from them."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vitral.layers.positions import PositionState
from vitral.vit import ViT

__all__ = ["attention_distance", "attention_over_image", "attention_weights", "rollout"]


@torch.no_grad()
def attention_weights(model: ViT, images: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b heads t t"]]:
    """The weights A of Eq. 6 in every block, first block first; each row sums to 1.

    The model itself never forms them, as its attention is one fused operation. Have it in evaluation mode, or
    dropout takes part.

    Args:
        images: in the model's range, as for its `forward`.

    Raises:
        ValueError: attention runs along rows and columns, not among all tokens.
    """
    if model.config.attention != "global":
        raise ValueError("this model attends along rows and columns: it has no attention among all tokens to show")
    x, positions = model.embed(images)
    weights = []
    for block, pos in zip(model.blocks, positions, strict=True):
        weights.append(_weights(block, x, pos))
        x = block(x, pos)
    return weights


def _weights(block: Any, x: Float[Tensor, "b t d"], pos: PositionState) -> Float[Tensor, "b heads t t"]:
    """The weights that a block computes inside its fused attention."""
    q, k, _ = block.attn.project_qkv(block.norm1(pos.add(x)))
    q, k = pos.rotate(q, k)
    bias = pos.bias(q)
    logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    return (logits if bias is None else logits + bias).softmax(dim=-1)


def rollout(weights: Sequence[Float[Tensor, "b heads t t"]]) -> Float[Tensor, "b t t"]:
    """How much of each input token has come to each output token through all blocks (appendix D.8).

    In every block the heads are averaged, and the residual connection counts as attention to oneself; the blocks
    are then multiplied. Rows sum to 1.
    """
    tokens = torch.eye(weights[0].shape[-1], device=weights[0].device)
    flow = tokens.expand(len(weights[0]), -1, -1)
    for layer in weights:
        mixed = layer.mean(dim=1) + tokens
        flow = mixed / mixed.sum(dim=-1, keepdim=True) @ flow
    return flow


def attention_over_image(
    attention: Float[Tensor, "b t t"], *, grid: tuple[int, int], queries: slice
) -> Float[Tensor, "b {grid[0]} {grid[1]}"]:
    """The share of attention that each patch gets from what represents the image.

    That is the class token; without one, every patch alike, as pooling takes their mean.

    Args:
        attention: rows that sum to 1, of one block (heads averaged) or rolled out over all.
        grid: rows and columns of patches.
        queries: the tokens that represent the image, `ViT.pool_tokens`.
    """
    patches = _first_patch(attention, grid)
    return attention[:, queries, patches:].mean(dim=1).unflatten(1, grid)


def attention_distance(
    weights: Float[Tensor, "b heads t t"], *, grid: tuple[int, int], patch_size: tuple[int, int]
) -> Float[Tensor, " heads"]:
    """How far each head looks, in pixels of the input, averaged over images and query patches (appendix D.7).

    The distance between two patches is that of their centres, weighted by attention. Rows and columns of class token
    and registers are left out and the rest is not scaled up again, so attention to these counts as no distance.

    Args:
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
    """Number of class and register tokens, which come before the patches."""
    count = attention.shape[-1] - grid[0] * grid[1]
    assert count >= 0, f"{attention.shape[-1]} tokens do not hold a {grid[0]}x{grid[1]} grid"
    return count
