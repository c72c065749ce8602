"""Sharpness-aware minimisation (SAM, Foret et al., arXiv 2010.01412): the gradient at the worst weights nearby."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from vitral.distributed.parallel import clip_grad_norm, local_tensor

__all__ = ["ascended"]

SMALLEST_NORM = 1e-12
"""Keeps a gradient of zeros, as of a batch without readable images, from being divided by zero."""


@contextmanager
def ascended(parameters: Iterable[nn.Parameter], *, rho: float) -> Iterator[None]:
    """Within the context, weights are moved by `rho` along their gradient, and have no gradients; then they are back.

    The gradient is that of the whole batch, of all processes. Its scale does not matter, so that a scaled loss may
    have overflowed: then the moved weights are NaN, the next gradients too, and the scaler skips the step.

    Args:
        parameters: with gradients, whole or sharded.
        rho: length of the move, over all weights (the paper's Eq. 2).
    """
    trained = [parameter for parameter in parameters if parameter.grad is not None]
    weights = [local_tensor(parameter.detach()) for parameter in trained]
    before = [weight.clone() for weight in weights]  # subtracting the move again would leave rounding errors
    with torch.no_grad():
        scale = rho / clip_grad_norm(trained, norm=None).clamp(min=SMALLEST_NORM)
        for weight, parameter in zip(weights, trained, strict=True):
            assert parameter.grad is not None
            weight.add_(local_tensor(parameter.grad) * scale)
            parameter.grad = None
    try:
        yield
    finally:
        for weight, value in zip(weights, before, strict=True):
            weight.copy_(value)
