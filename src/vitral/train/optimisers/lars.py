"""LARS: momentum whose steps are as long as the weights allow, for linear probes with very large batches."""

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
"""Share of a weight's length that a gradient is given."""


class LARS(SGD):
    """Momentum with coupled weight decay, each matrix's gradient made as long as a share of the matrix (You et al.,
    arXiv 1708.03888), as MAE and MoCo v3 probe. Biases and norms, whose length says nothing, are updated as by
    SGD, and so is a matrix of zeros.
    """

    def __init__(self, params: Iterable[Any], *, lr: float, momentum: float, momentum_dtype: torch.dtype) -> None:
        super().__init__(params, lr=lr, momentum=momentum, nesterov=False, momentum_dtype=momentum_dtype)

    def update(
        self, params: list[Tensor], gradients: Tensors, states: list[State], *, step: int, group: dict[str, Any]
    ) -> None:
        gradients = torch._foreach_add(gradients, params, alpha=group["weight_decay"])
        if params[0].ndim > 1:
            lengths, weights = (
                full_tensor(torch.stack(torch._foreach_norm(tensors))) for tensors in (gradients, params)
            )
            trust = torch.where((lengths > 0) & (weights > 0), TRUST * weights / lengths, 1.0)
            torch._foreach_mul_(gradients, list(trust.unbind()))
        super().update(params, gradients, states, step=step, group=group | {"weight_decay": 0.0})
