"""Token merging (ToMe, arXiv 2210.09461): a trained model computes faster, because similar patches become one token.

Between attention and MLP of every block, each of every second patch token finds the token among the others whose key is
nearest. The most similar pairs merge into their mean, weighted by the patches that each token stands for.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from vitral.errors import UserError
from vitral.layers.positions import PositionState
from vitral.vit import ViT

__all__ = ["average_tokens", "match_tokens", "merge_tokens"]

ALL = slice(None)


def merge_tokens(model: nn.Module, per_block: int) -> None:
    """Lets a model merge tokens when it predicts; in place. Its weights, and the shapes of its outputs, stay the same.

    What is read of the last block gets its tokens back, each patch that of its group: so averages over patches and
    attention pooling weigh groups by their sizes.

    Args:
        model: in evaluation mode when it is called.
        per_block: pairs that every block merges, at most half of the patches that are left.

    Raises:
        UserError: `per_block` is below 1, or the model is no Vision Transformer whose positions are added at the stem,
            which attends to all patches, and whose images are of one size.
    """
    if per_block < 1:
        raise UserError(f"token merging takes at least 1 pair of tokens a block, not {per_block}")
    if not isinstance(model, ViT):
        raise UserError(f"token merging is for Vision Transformers, and this is a {type(model).__name__}")
    config = model.config
    if config.attention != "global" or model.positions.in_attention or config.position_injection != "stem":
        raise UserError(
            "token merging needs attention to all patches and positions that are added once: this model has attention "
            f"{config.attention} and position {config.position}, injected at {config.position_injection}"
        )
    if model.card is not None:
        model.card.preprocessing.check_one_size("token merging")
    model.run_blocks = partial(_run_blocks, model, per_block)


def match_tokens(keys: Float[Tensor, "b t k"], *, prefix: int, pairs: int) -> Int[Tensor, "b t"]:
    """Bipartite soft matching: where each token goes, as an index into the t - `pairs` tokens after merging.

    Tokens with an even index look for their nearest among those with an odd index; after merging they come first.

    Args:
        keys: of the tokens.
        prefix: tokens at the beginning, such as the class token, that merge with none.
        pairs: how many merge.
    """
    even, odd = slice(prefix + prefix % 2, None, 2), slice(prefix + 1 - prefix % 2, None, 2)
    unit = F.normalize(keys, dim=-1)
    similarity, nearest = (unit[:, even] @ unit[:, odd].mT).max(dim=-1)
    merges = torch.zeros_like(nearest).scatter(1, similarity.topk(pairs, dim=1).indices, 1)
    first_odd = prefix + nearest.shape[1] - pairs
    target = torch.arange(keys.shape[1], device=keys.device).repeat(keys.shape[0], 1)
    target[:, odd] = first_odd + torch.arange(target[:, odd].shape[1], device=keys.device)
    target[:, even] = torch.where(merges == 1, first_odd + nearest, prefix - 1 + (1 - merges).cumsum(1))
    return target


def average_tokens(
    x: Float[Tensor, "b t d"], size: Float[Tensor, "b t 1"], target: Int[Tensor, "b t"], *, count: int
) -> tuple[Float[Tensor, "b u d"], Float[Tensor, "b u 1"]]:
    """Averages tokens with the same target, weighted by their sizes; returns them with their summed sizes.

    Args:
        x: tokens.
        size: patches that each token stands for.
        target: of each token, below `count`.
        count: tokens after merging.
    """
    total, sizes = (
        values.new_zeros(values.shape[0], count, values.shape[2]).scatter_add(1, _columns(target, values), values)
        for values in (x * size, size)
    )
    return (total / sizes).to(x.dtype), sizes


def _run_blocks(
    model: ViT,
    per_block: int,
    x: Float[Tensor, "b t d"],
    states: list[PositionState],
    queries: slice = ALL,
    trace: dict | None = None,
) -> Float[Tensor, "b r d"]:
    """`ViT.run_blocks`; the states say nothing, as positions are in the tokens already, and none is padding."""
    assert states[-1].mask is None, "padding would merge with patches"
    blocks: list[Any] = list(model.blocks)
    last, prefix = len(blocks) - 1, model.config.num_prefix_tokens
    reads_prefix = queries.stop is not None  # only tokens before the patches: merging in the last block is no use
    size = torch.ones_like(x[:, :, :1], dtype=torch.promote_types(x.dtype, torch.float32))
    group = torch.arange(x.shape[1], device=x.device).repeat(x.shape[0], 1)
    for index, block in enumerate(blocks):
        is_end = reads_prefix and index == last
        x, keys = _attend(block, x, size, queries if is_end else ALL)
        if not is_end:
            pairs = min(per_block, (x.shape[1] - prefix) // 2)
            target = match_tokens(keys, prefix=prefix, pairs=pairs)
            x, size = average_tokens(x, size, target, count=x.shape[1] - pairs)
            group = target.gather(1, group)
        x = x + block.ls2(block.mlp(block.norm2(x)))
        if trace is not None:
            trace[f"blocks.{index}"] = x.gather(1, _columns(group, x))
    return x if reads_prefix else x.gather(1, _columns(group[:, queries], x))


def _attend(
    block: Any, x: Float[Tensor, "b t d"], size: Float[Tensor, "b t 1"], queries: slice
) -> tuple[Float[Tensor, "b r d"], Float[Tensor, "b t k"]]:
    """Eq. 2, with attention in proportion to the sizes of tokens; and the mean of the heads' keys."""
    q, k, v = block.attn.project_qkv(block.norm1(x))
    bias = rearrange(size.log(), "b t 1 -> b 1 1 t").to(q.dtype)
    out = F.scaled_dot_product_attention(q[:, :, queries], k, v, attn_mask=bias)
    out = block.attn.proj(rearrange(out, "b heads r k -> b r (heads k)"))
    return x[:, queries] + block.ls1(out), k.mean(dim=1)


def _columns(index: Int[Tensor, "b t"], like: Float[Tensor, "b u d"]) -> Int[Tensor, "b t d"]:
    """The index of each token, for each number of a token."""
    return index[:, :, None].expand(-1, -1, like.shape[2])
