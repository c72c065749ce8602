"""Muon: momentum with orthogonalised updates (Jordan et al. 2024), for the matrices of the blocks."""

# pyright: reportPrivateImportUsage=false
# PyTorch's own optimisers are made of torch._foreach_*, and there is no other name for them

from collections.abc import Iterable
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vitral.distributed.parallel import full_tensor, shard_like
from vitral.train.optimisers.by_shape import ByShape, State, Tensors

__all__ = ["Muon", "orthogonalise"]

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the Newton-Schulz iteration; singular values converge to between 0.7 and 1.2."""


def orthogonalise(matrices: Float[Tensor, "*m rows columns"], *, steps: int = 5) -> Float[Tensor, "*m rows columns"]:
    """Approximates the nearest semi-orthogonal matrix by Newton-Schulz iteration.

    Computed in bfloat16 on GPUs, as `torch.optim.Muon` does, and in float32 on CPUs, where bfloat16 is far slower.
    """
    a, b, c = QUINTIC
    x = matrices.to(torch.bfloat16 if matrices.is_cuda else torch.float32)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(ByShape):
    """Orthogonalised Nesterov momentum with decoupled weight decay.

    The update is scaled by 0.2 * sqrt(longer side), so that learning rates and weight decays of AdamW can be used
    (Liu et al. 2025). A parameter is `split` into matrices stacked by rows (q, k and v), which are orthogonalised
    separately.
    """

    def __init__(
        self, params: Iterable[Any], *, lr: float, weight_decay: float = 0.0, momentum: float = 0.95, split: int = 1
    ) -> None:
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay, momentum=momentum, split=split))

    def initial_state(self, param: Tensor, group: dict[str, Any]) -> State:
        return {"momentum": torch.zeros_like(param)}

    def update(
        self, params: list[Tensor], gradients: Tensors, states: list[State], *, step: int, group: dict[str, Any]
    ) -> None:
        means = [state["momentum"] for state in states]
        torch._foreach_lerp_(means, gradients, 1 - group["momentum"])
        nesterov = torch._foreach_mul(gradients, 1 - group["momentum"])
        torch._foreach_add_(nesterov, means, alpha=group["momentum"])
        # orthogonalisation needs full matrices, also if weights are sharded
        full = torch.stack([full_tensor(each) for each in nesterov])
        matrices = rearrange(full, "m (s r) c -> (m s) r c", s=group["split"])
        updates = rearrange(orthogonalise(matrices), "(m s) r c -> m (s r) c", s=group["split"])
        scale = 0.2 * max(matrices.shape[-2:]) ** 0.5
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(params, [shard_like(each, params[0]) for each in updates], alpha=-group["lr"] * scale)
