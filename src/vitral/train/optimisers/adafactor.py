"""Adafactor as used in vision: about as little memory as SGD, with adaptive steps as in Adam."""

# pyright: reportPrivateImportUsage=false
# PyTorch's own optimisers are made of torch._foreach_*, and there is no other name for them

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from vitral.distributed.parallel import full_tensor, shard_like
from vitral.train.optimisers.by_shape import ByShape, State, Tensors, cast_state, store_state

__all__ = ["Adafactor"]

MIN_FACTORED = 32
"""Matrices with a shorter side are not factored."""


class Adafactor(ByShape):
    """Adafactor as "Scaling Vision Transformers" modifies it (arXiv 2106.04560, section 3.4).

    The second moment of a matrix is factored into the means of its rows and columns if both sides are at least 32.
    There is no relative step size, no scaling by the parameter and no update clipping. The second moment decays by
    1 - t^-0.8, at most `cap`. The first moment, without bias correction, is that of the scaled update. Weight decay is
    decoupled. A parameter that is `split` into matrices stacked by rows (q, k and v) has row and column means for
    each; big_vision, whose projections have an axis of heads, has them for each head.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        momentum: float,
        momentum_dtype: torch.dtype,
        cap: float = 0.999,
        split: int = 1,
    ) -> None:
        defaults = dict(lr=lr, weight_decay=0.0, momentum=momentum, momentum_dtype=momentum_dtype, cap=cap, split=split)
        super().__init__(params, defaults)

    def initial_state(self, param: Tensor, group: dict[str, Any]) -> State:
        momentum = {"momentum": torch.zeros_like(param, dtype=group["momentum_dtype"])}
        split = group["split"]
        if param.ndim != 2 or min(param.shape[0] // split, param.shape[1]) < MIN_FACTORED:
            return {**momentum, "square": torch.zeros_like(param)}
        # full tensors in all processes, also if weights are sharded
        zeros = partial(torch.zeros, dtype=param.dtype, device=param.device)
        rows, columns = zeros(split, param.shape[0] // split), zeros(split, param.shape[1])
        return {**momentum, "square_rows": rows, "square_columns": columns}

    def update(
        self, params: list[Tensor], gradients: Tensors, states: list[State], *, step: int, group: dict[str, Any]
    ) -> None:
        new = 1 - min(group["cap"], 1 - step**-0.8)
        if "square" in states[0]:
            scaled = by_square(gradients, states, new=new)
        else:
            scaled = by_rows_and_columns(gradients, states, new=new, split=group["split"])
        means = cast_state(states, "momentum", dtype=gradients[0].dtype)
        torch._foreach_lerp_(means, scaled, 1 - group["momentum"])
        store_state(states, "momentum", means)
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(params, means, alpha=-group["lr"])


def by_square(gradients: Tensors, states: list[State], *, new: float) -> Tensors:
    """Gradients over the root of their second moment, which is updated with weight `new`."""
    squares = [state["square"] for state in states]
    torch._foreach_lerp_(squares, _squared(gradients), new)
    return torch._foreach_div(gradients, torch._foreach_sqrt(squares))


def by_rows_and_columns(gradients: Tensors, states: list[State], *, new: float, split: int) -> Tensors:
    """The same with a factored second moment: row means times column means, over the mean of all."""
    # the means need full tensors, also if weights are sharded
    squares = rearrange(
        torch.stack([full_tensor(square) for square in _squared(gradients)]), "m (s r) c -> m s r c", s=split
    )
    means = {"square_rows": squares.mean(dim=-1), "square_columns": squares.mean(dim=-2)}
    for name, mean in means.items():
        torch._foreach_lerp_([state[name] for state in states], list(mean), new)
    rows, columns = (torch.stack([state[name] for state in states]) for name in means)
    factors = (rows / rows.mean(dim=-1, keepdim=True)).rsqrt()[..., None] * columns.rsqrt()[..., None, :]
    full = rearrange(factors, "m s r c -> m (s r) c")
    return torch._foreach_mul(gradients, [shard_like(each, gradients[0]) for each in full])


def _squared(gradients: Tensors) -> Tensors:
    squares = torch._foreach_mul(gradients, gradients)
    torch._foreach_add_(squares, 1e-30)
    return squares
