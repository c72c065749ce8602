"""Gated MLP."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitral.layers.linear import FusedLinear

__all__ = ["QuickGELU", "SwiGLU"]


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), the approximation of GELU in OpenAI's CLIP."""

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return x * torch.sigmoid(1.702 * x)


class SwiGLU(nn.Module):
    """silu(gate(x)) * value(x), then a dense layer (Shazeer, arXiv 2002.05202), as in DINOv2's giant model.

    `fc1` computes gate and value, in this order, in one matrix product. Dropout follows the product and `fc2`.
    """

    def __init__(self, *, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = FusedLinear(width, hidden, projections=2)
        self.drop1 = nn.Dropout(dropout)
        self.fc2 = nn.Linear(hidden, width)
        self.drop2 = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        gate, value = self.fc1(x).chunk(2, dim=-1)
        return self.drop2(self.fc2(self.drop1(F.silu(gate) * value)))
