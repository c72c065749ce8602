"""Adam and AdamW with an optional bfloat16 first moment, and LAMB, which rescales Adam's updates."""

# pyright: reportPrivateImportUsage=false
# PyTorch's own optimisers are made of torch._foreach_*, and there is no other name for them

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from vitral.distributed.parallel import full_tensor
from vitral.train.optimisers.by_shape import ByShape, State, Tensors, cast_state, store_state

__all__ = ["LAMB", "Adam", "AdamW"]


class Moments(ByShape):
    """The first moment in `momentum_dtype`, and the second moment in the type of the parameter."""

    def __init__(
        self, params: Iterable[Any], *, lr: float, betas: tuple[float, float], eps: float, momentum_dtype: torch.dtype
    ) -> None:
        super().__init__(params, dict(lr=lr, weight_decay=0.0, betas=betas, eps=eps, momentum_dtype=momentum_dtype))

    def initial_state(self, param: Tensor, group: dict[str, Any]) -> State:
        return {
            "exp_avg": torch.zeros_like(param, dtype=group["momentum_dtype"]),
            "exp_avg_sq": torch.zeros_like(param),
        }


def adam_updates(gradients: Tensors, states: list[State], *, step: int, group: dict[str, Any]) -> Tensors:
    """Bias-corrected first moment over the root of the bias-corrected second moment.

    Kingma and Ba 2015, algorithm 1.
    """
    first, second = group["betas"]
    means = cast_state(states, "exp_avg", dtype=gradients[0].dtype)
    torch._foreach_lerp_(means, gradients, 1 - first)
    store_state(states, "exp_avg", means)
    squares = [state["exp_avg_sq"] for state in states]
    torch._foreach_mul_(squares, second)
    torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
    roots = torch._foreach_div(squares, 1 - second**step)
    torch._foreach_sqrt_(roots)
    torch._foreach_add_(roots, group["eps"])
    updates = torch._foreach_div(means, 1 - first**step)
    torch._foreach_div_(updates, roots)
    return updates


class AdamW(Moments):
    """Adam with decoupled weight decay, as `torch.optim.AdamW`."""

    def update(
        self, params: list[Tensor], gradients: Tensors, states: list[State], *, step: int, group: dict[str, Any]
    ) -> None:
        updates = adam_updates(gradients, states, step=step, group=group)
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(params, updates, alpha=-group["lr"])


class Adam(Moments):
    """Adam with weight decay added to the gradient (L2), as `torch.optim.Adam`."""

    def update(
        self, params: list[Tensor], gradients: Tensors, states: list[State], *, step: int, group: dict[str, Any]
    ) -> None:
        gradients = torch._foreach_add(gradients, params, alpha=group["weight_decay"])
        updates = adam_updates(gradients, states, step=step, group=group)
        torch._foreach_add_(params, updates, alpha=-group["lr"])


class LAMB(Moments):
    """Adam's update with weight decay, scaled to the norm of the parameter (You et al., arXiv 1904.00962).

    Parameters without weight decay, biases and norms, are updated as in Adam.
    """

    def update(
        self, params: list[Tensor], gradients: Tensors, states: list[State], *, step: int, group: dict[str, Any]
    ) -> None:
        updates = adam_updates(gradients, states, step=step, group=group)
        if group["weight_decay"]:
            torch._foreach_add_(updates, params, alpha=group["weight_decay"])
            update_norms, weight_norms = (
                full_tensor(torch.stack(torch._foreach_norm(tensors))) for tensors in (updates, params)
            )
            trust = torch.where((update_norms > 0) & (weight_norms > 0), weight_norms / update_norms, 1.0)
            torch._foreach_mul_(updates, list(trust.unbind()))
        torch._foreach_add_(params, updates, alpha=-group["lr"])
