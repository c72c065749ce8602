"""A head that gives numbers in their own unit, while its weights learn standardised ones."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.errors import UserError

__all__ = ["ScaledHead", "add_scale", "fold_scale"]


class ScaledHead(nn.Linear):
    """A dense layer whose output is multiplied by `std`, and `mean` added."""

    def __init__(self, base: nn.Linear, *, mean: float, std: float) -> None:
        super().__init__(base.in_features, base.out_features, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.mean, self.std = nn.Buffer(torch.tensor(mean)), nn.Buffer(torch.tensor(std))

    def forward(self, input: Float[Tensor, "b d"]) -> Float[Tensor, "b outputs"]:
        # in float32: 16 bits have too few digits for a number such as a year
        return super().forward(input).float() * self.std + self.mean

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """One dense layer that computes the same."""
        plain = nn.Linear(self.in_features, self.out_features, device="meta")
        plain.weight = nn.Parameter(self.weight * self.std)
        plain.bias = nn.Parameter(self.bias * self.std + self.mean)
        return plain


def add_scale(model: nn.Module, *, mean: float, std: float) -> None:
    """Makes the head give numbers of this mean and standard deviation; in place.

    Raises:
        UserError: the head is not a dense layer with a bias.
    """
    head = model.get_submodule("head")
    if not isinstance(head, nn.Linear) or head.bias is None:
        raise UserError("regression needs one head with a bias: set --model.head-bias 0, and --model.no-distillation")
    if type(head) is not nn.Linear:
        raise UserError("regression needs a plain head: leave out --model.probe and adapters of the head")
    model.set_submodule("head", ScaledHead(head, mean=mean, std=std))


def fold_scale(model: nn.Module) -> None:
    """Replaces a scaled head by a plain one that computes the same; in place."""
    head = model.get_submodule("head")
    if isinstance(head, ScaledHead):
        model.set_submodule("head", head.folded())
