"""Counts multiply-accumulates of what runs on the meta device, from shapes alone.

`torch.utils.flop_counter` counts the same, but takes longer, and imports PyTorch's compiler, as do most operations on
the meta device: that takes as long as `import torch`. So the operations of models are replaced by their shapes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["MacCounter"]


class MacCounter(TorchFunctionMode):
    """Adds up the multiply-accumulates of linear layers, convolutions, matrix products and attention in its context."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        output = SHAPES[func](*args, **(kwargs or {})) if func in SHAPES else func(*args, **(kwargs or {}))
        if func in (F.linear, F.conv2d):
            self.macs += output.numel() * args[1][0].numel()
        elif func in (torch.matmul, Tensor.matmul):
            self.macs += output.numel() * args[0].shape[-1]
        elif func is F.scaled_dot_product_attention:
            q, k, v = args[:3]
            self.macs += q.shape[:-1].numel() * k.shape[-2] * (q.shape[-1] + v.shape[-1])
        return output


def _like(x: Tensor, *_: object, **__: object) -> Tensor:
    return x.new_empty(x.shape)


def _broadcast(*operands: Tensor | float) -> Tensor:
    tensors = [operand for operand in operands if isinstance(operand, Tensor)]
    return tensors[0].new_empty(np.broadcast_shapes(*(tensor.shape for tensor in tensors)))


def _reduced(x: Tensor, dim: int | Sequence[int], *, keepdim: bool = False) -> Tensor:
    reduced = {axis % x.ndim for axis in np.atleast_1d(dim)}
    sizes = {axis: 1 if axis in reduced else size for axis, size in enumerate(x.shape)}
    return x.new_empty([size for axis, size in sizes.items() if keepdim or axis not in reduced])


def _cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    first = tensors[0]
    shape = list(first.shape)
    shape[dim] = sum(tensor.shape[dim] for tensor in tensors)
    return first.new_empty(shape)


def _linear(x: Tensor, weight: Tensor, _: Tensor | None = None) -> Tensor:
    return x.new_empty(*x.shape[:-1], len(weight))


def _attention(q: Tensor, _: Tensor, v: Tensor, **__: object) -> Tensor:
    return q.new_empty(*q.shape[:-1], v.shape[-1])


SHAPES: dict[Any, Callable[..., Tensor]] = {
    **dict.fromkeys((F.layer_norm, F.group_norm, F.gelu, F.relu, F.silu, Tensor.reciprocal), _like),
    **dict.fromkeys((Tensor.add, Tensor.sub, Tensor.mul, Tensor.div), _broadcast),
    **dict.fromkeys((Tensor.mean, torch.linalg.vector_norm), _reduced),
    torch.cat: _cat,
    F.linear: _linear,
    F.scaled_dot_product_attention: _attention,
}
"""Stand-ins that return an empty tensor of the right shape."""
