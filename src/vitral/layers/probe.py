"""A linear probe trained like any model: a head on frozen features, standardised to mean 0 and variance 1."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.device import precise_dtype
from vitral.distributed.world import all_reduce_sum
from vitral.errors import UserError

__all__ = ["ProbeHead", "add_probe", "fold_probe"]

MOMENTUM = 0.1
"""Weight of each batch in the running statistics."""
EPS = 1e-6


class Standardise(nn.Module):
    """Batch normalisation without scale and shift. In training statistics are those of the batch over all processes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.zeros(width))
        self.var = nn.Buffer(torch.ones(width))

    def forward(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        mean, var = self.batch_statistics(x.detach()) if self.training else (self.mean, self.var)
        return (x - mean) * (var + EPS).rsqrt()

    @torch.no_grad()
    def batch_statistics(self, x: Float[Tensor, "b d"]) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
        """Mean and variance of a batch; updates the running statistics."""
        x = x.to(precise_dtype(x.device))
        count, total = all_reduce_sum(torch.tensor(len(x), device=x.device)), all_reduce_sum(x.sum(0))
        mean = total / count
        var = all_reduce_sum((x - mean).square().sum(0)) / count
        self.mean.lerp_(mean.to(self.mean.dtype), MOMENTUM)
        self.var.lerp_((var * count / (count - 1).clamp(min=1)).to(self.var.dtype), MOMENTUM)
        return mean.to(self.mean.dtype), var.to(self.var.dtype)


class ProbeHead(nn.Linear):
    """A head on standardised features."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__(base.in_features, base.out_features, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.norm = Standardise(base.in_features)

    def forward(self, input: Float[Tensor, "b d"]) -> Float[Tensor, "b classes"]:
        return super().forward(self.norm(input))

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """One dense layer that computes the same from raw features."""
        scale = (self.norm.var + EPS).rsqrt()
        plain = nn.Linear(self.in_features, self.out_features, device="meta")
        plain.weight = nn.Parameter(self.weight * scale)
        plain.bias = nn.Parameter(self.bias - plain.weight @ self.norm.mean)
        return plain


def add_probe(model: nn.Module) -> None:
    """Freezes everything but the head, and standardises the head's input; in place.

    Raises:
        UserError: the head is not a dense layer with a bias, so the probe could not be folded into it.
    """
    head = model.get_submodule("head")
    if type(head) is not nn.Linear or head.bias is None:
        raise UserError(
            "a linear probe needs one head with a bias: set --model.head-bias 0, and --model.no-distillation"
        )
    model.requires_grad_(False)
    model.set_submodule("head", ProbeHead(head.requires_grad_()))


def fold_probe(model: nn.Module) -> None:
    """Replaces a probe's head by a plain one that computes the same, and unfreezes all weights; in place."""
    head = model.get_submodule("head")
    if isinstance(head, ProbeHead):
        model.set_submodule("head", head.folded())
        model.requires_grad_()
