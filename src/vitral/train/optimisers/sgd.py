"""SGD with optional bfloat16 momentum."""

# pyright: reportPrivateImportUsage=false
# PyTorch's own optimisers are made of torch._foreach_*, and there is no other name for them

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from vitral.train.optimisers.by_shape import ByShape, State, Tensors, cast_state, store_state

__all__ = ["SGD"]


class SGD(ByShape):
    """SGD with momentum in `momentum_dtype` and coupled weight decay, as `torch.optim.SGD`."""

    def __init__(
        self, params: Iterable[Any], *, lr: float, momentum: float, nesterov: bool, momentum_dtype: torch.dtype
    ) -> None:
        defaults = dict(lr=lr, weight_decay=0.0, momentum=momentum, nesterov=nesterov, momentum_dtype=momentum_dtype)
        super().__init__(params, defaults)

    def initial_state(self, param: Tensor, group: dict[str, Any]) -> State:
        return {"momentum": torch.zeros_like(param, dtype=group["momentum_dtype"])}

    def update(
        self, params: list[Tensor], gradients: Tensors, states: list[State], *, step: int, group: dict[str, Any]
    ) -> None:
        gradients = torch._foreach_add(gradients, params, alpha=group["weight_decay"])
        velocities = cast_state(states, "momentum", dtype=gradients[0].dtype)
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_add_(velocities, gradients)
        store_state(states, "momentum", velocities)
        if group["nesterov"]:
            torch._foreach_add_(gradients, velocities, alpha=group["momentum"])
            velocities = gradients
        torch._foreach_add_(params, velocities, alpha=-group["lr"])
