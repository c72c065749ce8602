"""PyTorch's optimisers without its compiler.

They import it at their first call, only to be left out of compiled graphs, and that takes as long as `import torch`. No
graph of ours contains an optimiser, so the methods are those inside of the decorators that import it.
"""

from inspect import unwrap

import torch

__all__ = ["SGD", "Adam", "AdamW", "EagerOptimizer"]


class EagerOptimizer(torch.optim.Optimizer):
    """Base class of all optimisers here."""

    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = unwrap(torch.optim.Optimizer.zero_grad)


class Adam(EagerOptimizer, torch.optim.Adam):
    """PyTorch's Adam."""

    step = torch.no_grad()(unwrap(torch.optim.Adam.step))


class AdamW(EagerOptimizer, torch.optim.AdamW):
    """PyTorch's AdamW."""

    step = torch.no_grad()(unwrap(torch.optim.AdamW.step))


class SGD(EagerOptimizer, torch.optim.SGD):
    """PyTorch's SGD."""

    step = torch.no_grad()(unwrap(torch.optim.SGD.step))
