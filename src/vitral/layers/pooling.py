"""From the final tokens to one vector an image."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from vitral.layers.linear import FusedLinear

__all__ = ["AttentionPool", "Both", "First", "Mean", "TwoHeads"]


class First(nn.Module):
    """The first token: the class token (Eq. 4)."""

    def forward(self, x: Float[Tensor, "b r d"]) -> Float[Tensor, "b d"]:
        return x[:, 0]


class Both(nn.Module):
    """Class token and distillation token, each for its own head."""

    def forward(self, x: Float[Tensor, "b 2 d"]) -> Float[Tensor, "b 2 d"]:
        return x


class TwoHeads(nn.Linear):
    """The head of the class token and that of the distillation token, `dist`; together the mean of their logits.

    While a teacher is learned from, training gives the logits of each: one learns from labels, the other from it.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias=bias)
        self.dist = nn.Linear(inputs, outputs, bias=bias)
        self.taught = False

    def forward(self, input: Float[Tensor, "b 2 d"]) -> Float[Tensor, "b *two classes"]:
        both = torch.stack([super().forward(input[:, 0]), self.dist(input[:, 1])], dim=1)
        return both if self.taught and self.training else both.mean(dim=1)


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
        return self.gather(x, torch.ones(1, 1, x.shape[1], dtype=torch.bool, device=x.device))[:, 0]

    def gather(self, x: Float[Tensor, "b r d"], among: Bool[Tensor, "#b m r"]) -> Float[Tensor, "b m d"]:
        """One vector for each of several sets of tokens.

        Args:
            x: the tokens.
            among: which of them belong to each set; a set has at least one.
        """
        q = rearrange(self.q(self.latent), "1 1 (heads k) -> 1 heads 1 k", heads=self.num_heads)
        k, v = rearrange(self.kv(x), "b r (two heads k) -> two b heads r k", two=2, heads=self.num_heads)
        q = q.expand(x.shape[0], -1, among.shape[1], -1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=among[:, None])
        gathered = self.proj(rearrange(out, "b heads m k -> b m (heads k)"))
        return gathered + self.mlp(self.norm(gathered))

    def init_weights(self, generator: Generator | None = None) -> None:
        """Draws the probe, Xavier uniform as big_vision does: for Flax it is a matrix from one input to `width`."""
        nn.init.xavier_uniform_(self.latent[0], generator=generator)
