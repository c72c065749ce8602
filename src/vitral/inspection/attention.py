"""Where a model looks: attention weights, recomputed from named landmarks, and what follows from them."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.vit import Block, ViT

__all__ = ["attention_distance", "attention_over_image", "attention_weights", "rollout"]


@torch.no_grad()
def attention_weights(model: ViT, images: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b heads t t"]]:
    """The weights A of Eq. 6 in every block, first block first; each row sums to 1.

    The model itself never forms them, as its attention is one fused operation. Have it in evaluation mode, or
    dropout takes part.

    Args:
        images: in the model's range, as for its `forward`.
    """
    landmarks = model.features(images).landmarks
    inputs = ["embedded", *(f"blocks.{index}" for index in range(len(model.blocks) - 1))]
    return [_weights(block, landmarks[name]) for block, name in zip(model.blocks, inputs, strict=True)]


def _weights(block: nn.Module, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b heads t t"]:
    assert isinstance(block, Block)
    q, k, _ = block.attn.heads(block.norm1(x))
    return (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1)


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
    attention: Float[Tensor, "b t t"], *, grid: tuple[int, int]
) -> Float[Tensor, "b {grid[0]} {grid[1]}"]:
    """The share of attention that each patch gets from what represents the image.

    That is the class token; without one, every patch alike, as pooling takes their mean.

    Args:
        attention: rows that sum to 1, of one block (heads averaged) or rolled out over all.
        grid: rows and columns of patches.
    """
    num_class_tokens = _class_tokens(attention, grid)
    row = attention[:, 0, 1:] if num_class_tokens else attention.mean(dim=1)
    return row.unflatten(1, grid)


def attention_distance(
    weights: Float[Tensor, "b heads t t"], *, grid: tuple[int, int], patch_size: tuple[int, int]
) -> Float[Tensor, " heads"]:
    """How far each head looks, in pixels of the input, averaged over images and query patches (appendix D.7).

    The distance between two patches is that of their centres, weighted by attention. The class token's row and
    column are left out and the rest is not scaled up again, so attention to the class token counts as no distance.

    Args:
        grid: rows and columns of patches.
        patch_size: height and width of a patch in pixels.
    """
    num_class_tokens = _class_tokens(weights, grid)
    (gh, gw), (p, q) = grid, patch_size
    rows, columns = torch.arange(gh) * float(p), torch.arange(gw) * float(q)
    centres = torch.cartesian_prod(rows, columns).to(weights.device)
    patches = weights[:, :, num_class_tokens:, num_class_tokens:]
    return (patches * torch.cdist(centres, centres)).sum(dim=-1).mean(dim=(0, 2))


def _class_tokens(attention: Tensor, grid: tuple[int, int]) -> int:
    count = attention.shape[-1] - grid[0] * grid[1]
    assert count in (0, 1), f"{attention.shape[-1]} tokens are not a {grid[0]}x{grid[1]} grid and a class token"
    return count
