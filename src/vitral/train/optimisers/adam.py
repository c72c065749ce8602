"""Adam whose mean of the gradient may be kept in half precision, and LAMB, which goes in its direction."""

# pyright: reportPrivateImportUsage=false
# PyTorch's own optimisers are made of torch._foreach_*, and there is no other name for them

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from vitral.distributed.parallel import full_tensor
from vitral.train.optimisers.by_shape import ByShape, State, Tensors, keep, recalled

__all__ = ["LAMB", "Adam", "AdamW"]


class Moments(ByShape):
    """Running means of the gradient, kept in `momentum_dtype`, and of its square, kept as the parameter is."""

    def __init__(
        self, params: Iterable[Any], *, lr: float, betas: tuple[float, float], eps: float, momentum_dtype: torch.dtype
    ) -> None:
        super().__init__(params, dict(lr=lr, weight_decay=0.0, betas=betas, eps=eps, momentum_dtype=momentum_dtype))

    def begun(self, param: Tensor, group: dict[str, Any]) -> State:
        return {
            "exp_avg": torch.zeros_like(param, dtype=group["momentum_dtype"]),
            "exp_avg_sq": torch.zeros_like(param),
        }


def directions(gradients: Tensors, states: list[State], *, step: int, group: dict[str, Any]) -> Tensors:
    """The mean of the gradient over the root of its mean square, neither biased by its beginning at zero.

    Kingma and Ba 2015, algorithm 1.
    """
    first, second = group["betas"]
    means = recalled(states, "exp_avg", dtype=gradients[0].dtype)
    torch._foreach_lerp_(means, gradients, 1 - first)
    keep(states, "exp_avg", means)
    squares = [state["exp_avg_sq"] for state in states]
    torch._foreach_mul_(squares, second)
    torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
    roots = torch._foreach_div(squares, 1 - second**step)
    torch._foreach_sqrt_(roots)
    torch._foreach_add_(roots, group["eps"])
    found = torch._foreach_div(means, 1 - first**step)
    torch._foreach_div_(found, roots)
    return found


class AdamW(Moments):
    """Adam with decoupled weight decay, as `torch.optim.AdamW`."""

    def update(
        self, params: list[Tensor], gradients: Tensors, states: list[State], *, step: int, group: dict[str, Any]
    ) -> None:
        found = directions(gradients, states, step=step, group=group)
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(params, found, alpha=-group["lr"])


class Adam(Moments):
    """Adam with weight decay as a part of the gradient (L2), as `torch.optim.Adam`."""

    def update(
        self, params: list[Tensor], gradients: Tensors, states: list[State], *, step: int, group: dict[str, Any]
    ) -> None:
        gradients = torch._foreach_add(gradients, params, alpha=group["weight_decay"])
        found = directions(gradients, states, step=step, group=group)
        torch._foreach_add_(params, found, alpha=-group["lr"])


class LAMB(Moments):
    """Adam's direction with weight decay, made as long as the parameter is (You et al., arXiv 1904.00962).

    What does not decay, biases and norms, is updated as by Adam: their length says nothing.
    """

    def update(
        self, params: list[Tensor], gradients: Tensors, states: list[State], *, step: int, group: dict[str, Any]
    ) -> None:
        found = directions(gradients, states, step=step, group=group)
        if group["weight_decay"]:
            torch._foreach_add_(found, params, alpha=group["weight_decay"])
            lengths, wanted = (full_tensor(torch.stack(torch._foreach_norm(tensors))) for tensors in (found, params))
            trust = torch.where((lengths > 0) & (wanted > 0), wanted / lengths, 1.0)
            torch._foreach_mul_(found, list(trust.unbind()))
        torch._foreach_add_(params, found, alpha=-group["lr"])
