"""From the final tokens to one vector an image."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Generator, Tensor, nn

from vitral.layers.linear import FusedLinear

__all__ = ["AttentionPool", "First", "Mean"]


class First(nn.Module):
    """The first token: the class token (Eq. 4)."""

    def forward(self, x: Float[Tensor, "b r d"]) -> Float[Tensor, "b d"]:
        return x[:, 0]


class Mean(nn.Module):
    """The mean of the tokens (appendix D.3)."""

    def forward(self, x: Float[Tensor, "b r d"]) -> Float[Tensor, "b d"]:
        return x.mean(dim=1)


class AttentionPool(nn.Module):
    """A learned probe attends to the tokens, then an MLP: the MAP head of "Scaling Vision Transformers" (2106.04560).

    The probe itself is not added to what it gathered; the MLP's residual is on that. Names are those of timm.
    """

    def __init__(self, *, width: int, num_heads: int, mlp: nn.Module, norm_eps: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.latent = nn.Parameter(torch.zeros(1, 1, width))
        self.q = nn.Linear(width, width)
        self.kv = FusedLinear(width, width, projections=2)
        self.proj = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = mlp

    def forward(self, x: Float[Tensor, "b r d"]) -> Float[Tensor, "b d"]:
        q = rearrange(self.q(self.latent), "1 1 (heads k) -> 1 heads 1 k", heads=self.num_heads)
        k, v = rearrange(self.kv(x), "b r (two heads k) -> two b heads r k", two=2, heads=self.num_heads)
        out = F.scaled_dot_product_attention(q.expand(len(x), -1, -1, -1), k, v)
        gathered = self.proj(rearrange(out, "b heads 1 k -> b 1 (heads k)"))
        return (gathered + self.mlp(self.norm(gathered)))[:, 0]

    def init_weights(self, generator: Generator | None = None) -> None:
        """Draws the probe, Xavier uniform as big_vision does."""
        nn.init.xavier_uniform_(self.latent, generator=generator)
