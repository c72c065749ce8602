"""How the tensors of an upstream checkpoint map to Vitral's state dict: one table, used in both directions."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "FLAX_CONV",
    "IDENTITY",
    "POSITIONS_WITHOUT_CLS",
    "TRANSPOSE",
    "UNBATCHED",
    "VECTOR",
    "Layout",
    "TensorMapping",
    "flax_out_kernel",
    "flax_qkv_bias",
    "flax_qkv_kernel",
    "from_upstream",
    "to_upstream",
]


@dataclass(frozen=True)
class Layout:
    """How a tensor is laid out upstream; `to_upstream` is the inverse of `from_upstream`."""

    from_upstream: Callable[[Tensor], Tensor]
    to_upstream: Callable[[Tensor], Tensor]


IDENTITY = Layout(lambda upstream: upstream, lambda tensor: tensor)
TRANSPOSE = Layout(lambda upstream: upstream.t(), lambda tensor: tensor.t())
"""(inputs, outputs), as in Flax."""
FLAX_CONV = Layout(lambda upstream: upstream.permute(3, 2, 0, 1), lambda tensor: tensor.permute(2, 3, 1, 0))
"""(height, width, inputs, outputs)."""

POSITIONS_WITHOUT_CLS = Layout(
    lambda upstream: torch.cat([torch.zeros_like(upstream[:, :1]), upstream], dim=1), lambda tensor: tensor[:, 1:]
)
"""Positions without a row for the class token; the position of that token is already added to it."""
VECTOR = Layout(lambda upstream: upstream.reshape(1, 1, -1), lambda tensor: tensor[0, 0])
"""A token without batch and token axes."""
UNBATCHED = Layout(lambda upstream: upstream[None], lambda tensor: tensor[0])
"""Positions without a batch axis."""


def flax_qkv_kernel(num_heads: int) -> Layout:
    """Kernel of the query, key or value projection: (inputs, heads, head width)."""
    return Layout(lambda upstream: upstream.flatten(1).t(), lambda tensor: tensor.t().unflatten(1, (num_heads, -1)))


def flax_qkv_bias(num_heads: int) -> Layout:
    """Bias of the query, key or value projection: (heads, head width)."""
    return Layout(lambda upstream: upstream.flatten(), lambda tensor: tensor.unflatten(0, (num_heads, -1)))


def flax_out_kernel(num_heads: int) -> Layout:
    """Kernel of the output projection: (heads, head width, outputs)."""
    return Layout(lambda upstream: upstream.flatten(0, 1).t(), lambda tensor: tensor.t().unflatten(0, (num_heads, -1)))


@dataclass(frozen=True)
class TensorMapping:
    """One tensor of the state dict, and the upstream tensors that it is made of."""

    name: str
    """Name in Vitral's state dict."""
    upstream: tuple[str, ...]
    """Names upstream; several tensors are concatenated along the first axis."""
    layout: Layout = IDENTITY
    """Layout of each upstream tensor."""


def from_upstream(
    mapping: Iterable[TensorMapping], tensors: dict[str, Tensor]
) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """Converts upstream tensors to Vitral's state dict.

    Returns:
        The state dict, the missing upstream names, and the upstream names that the mapping does not use.
    """
    state, missing, unexpected = {}, [], set(tensors)
    for entry in mapping:
        absent = [name for name in entry.upstream if name not in tensors]
        unexpected -= set(entry.upstream)
        if absent:
            missing += absent
            continue
        parts = [entry.layout.from_upstream(tensors[name]) for name in entry.upstream]
        state[entry.name] = parts[0] if len(parts) == 1 else torch.cat(parts)
    return state, missing, sorted(unexpected)


def to_upstream(
    mapping: Iterable[TensorMapping], state: dict[str, Tensor]
) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """Converts Vitral's state dict to upstream tensors.

    Returns:
        The upstream tensors, the names that the mapping needs but `state` lacks, and the names that it does not use.
    """
    tensors, missing, unexpected = {}, [], set(state)
    for entry in mapping:
        if entry.name not in state:
            missing.append(entry.name)
            continue
        unexpected.discard(entry.name)
        for name, part in zip(entry.upstream, state[entry.name].chunk(len(entry.upstream)), strict=True):
            tensors[name] = entry.layout.to_upstream(part).contiguous()
    return tensors, missing, sorted(unexpected)
