"""LARS: SGD with a trust ratio for each layer, for linear probes with very large batches."""

# pyright: reportPrivateImportUsage=false
# PyTorch's own optimisers are made of torch._foreach_*, and there is no other name for them

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from vitral.distributed.parallel import full_tensor
from vitral.train.optimisers.by_shape import State, Tensors
from vitral.train.optimisers.sgd import SGD

__all__ = ["LARS"]

TRUST = 1e-3
"""Norm of a gradient as a fraction of the weight's norm."""


class LARS(SGD):
    """SGD whose gradient of each matrix is scaled to a fraction of the matrix's norm (You et al., arXiv 1708.03888).

    MAE and MoCo v3 train linear probes with it. Biases, norms and matrices of zeros are updated as in SGD.
    """

    def __init__(self, params: Iterable[Any], *, lr: float, momentum: float, momentum_dtype: torch.dtype) -> None:
        super().__init__(params, lr=lr, momentum=momentum, nesterov=False, momentum_dtype=momentum_dtype)

    def update(
        self, params: list[Tensor], gradients: Tensors, states: list[State], *, step: int, group: dict[str, Any]
    ) -> None:
        gradients = torch._foreach_add(gradients, params, alpha=group["weight_decay"])
        if params[0].ndim > 1:
            gradient_norms, weight_norms = (
                full_tensor(torch.stack(torch._foreach_norm(tensors))) for tensors in (gradients, params)
            )
            trust = torch.where((gradient_norms > 0) & (weight_norms > 0), TRUST * weight_norms / gradient_norms, 1.0)
            torch._foreach_mul_(gradients, list(trust.unbind()))
        super().update(params, gradients, states, step=step, group=group | {"weight_decay": 0.0})
