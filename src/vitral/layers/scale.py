"""LayerScale (Touvron et al., arXiv 2103.17239)."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

__all__ = ["LayerScale"]


class LayerScale(nn.Module):
    """A learned factor for each channel of a branch's output."""

    def __init__(self, width: int, *, initial: float) -> None:
        super().__init__()
        self.initial = initial
        self.gamma = nn.Parameter(torch.full((width,), initial))

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return x * self.gamma.to(x.dtype)

    def init_weights(self, generator: Generator | None = None) -> None:
        """Sets every factor to its initial value."""
        nn.init.constant_(self.gamma, self.initial)
