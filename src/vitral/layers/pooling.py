"""From the final tokens to one vector per image, and the head of a distilled model."""

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from vitral.layers.linear import FusedLinear

__all__ = ["AllTokens", "AttentionPool", "ClassAndMean", "FirstToken", "MeanPool", "NoHead", "TwoHeads"]

Exist: TypeAlias = Bool[Tensor, "b r"] | None
"""Which tokens are no padding; None: all."""


class AllTokens(nn.Module):
    """The tokens as they are."""

    def forward(self, x: Float[Tensor, "b r d"], exist: Exist = None) -> Float[Tensor, "b r d"]:
        return x


class FirstToken(nn.Module):
    """The first token: the class token (Eq. 4)."""

    def forward(self, x: Float[Tensor, "b r d"], exist: Exist = None) -> Float[Tensor, "b d"]:
        return x[:, 0]


class TwoHeads(nn.Linear):
    """A head for the class token and one, `dist`, for the distillation token (DeiT). Returns the mean of their logits.

    With `return_both` it returns both in training: the first learns from labels, the second from a teacher.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias=bias)
        self.dist = nn.Linear(inputs, outputs, bias=bias)
        self.return_both = False

    def forward(self, input: Float[Tensor, "b 2 d"]) -> Float[Tensor, "b *two classes"]:
        both = torch.stack([super().forward(input[:, 0]), self.dist(input[:, 1])], dim=1)
        return both if self.return_both and self.training else both.mean(dim=1)


class NoHead(nn.Module):
    """In place of a head: returns the pooled features; of class and distillation token, the mean."""

    def __init__(self, like: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", like.weight.detach()[:0], persistent=False)  # its device and type, no outputs
        self.bias = None

    def forward(self, input: Float[Tensor, "b *two d"]) -> Float[Tensor, "b d"]:
        return input.mean(dim=1) if input.ndim == 3 else input


class MeanPool(nn.Module):
    """The mean of the tokens (appendix D.3)."""

    def forward(self, x: Float[Tensor, "b r d"], exist: Exist = None) -> Float[Tensor, "b d"]:
        if exist is None:
            return x.mean(dim=1)
        weights = exist / exist.sum(dim=1, keepdim=True)
        return (weights.to(x.dtype)[:, None] @ x)[:, 0]


class ClassAndMean(nn.Module):
    """The class token and the mean of the patches side by side: what DINOv2's classifier reads (arXiv 2304.07193)."""

    def __init__(self, *, num_prefix_tokens: int) -> None:
        super().__init__()
        self.num_prefix_tokens = num_prefix_tokens
        self.mean = MeanPool()

    def forward(self, x: Float[Tensor, "b t d"], exist: Exist = None) -> Float[Tensor, "b e"]:
        patches = slice(self.num_prefix_tokens, None)
        mean = self.mean(x[:, patches], None if exist is None else exist[:, patches])
        return torch.cat([x[:, 0], mean], dim=-1)


class AttentionPool(nn.Module):
    """A learned query attends to the tokens, then an MLP: the MAP head of "Scaling Vision Transformers" (2106.04560).

    Attention has no residual connection, the MLP has one. Names are timm's: the query is `latent`.
    """

    def __init__(
        self, *, width: int, num_heads: int, norm: Callable[[], nn.Module], mlp: Callable[[], nn.Module]
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.latent = nn.Parameter(torch.zeros(1, 1, width))
        self.q = nn.Linear(width, width)
        self.kv = FusedLinear(width, width, projections=2)
        self.proj = nn.Linear(width, width)
        self.norm, self.mlp = norm(), mlp()

    def forward(self, x: Float[Tensor, "b r d"], exist: Exist = None) -> Float[Tensor, "b d"]:
        if exist is None:
            exist = torch.ones(1, x.shape[1], dtype=torch.bool, device=x.device)
        return self.pool_sets(x, exist[:, None])[:, 0]

    def pool_sets(self, x: Float[Tensor, "b r d"], members: Bool[Tensor, "#b m r"]) -> Float[Tensor, "b m d"]:
        """Pools several sets of tokens, each to one vector.

        Args:
            x: the tokens.
            members: which tokens belong to each set, at least one.
        """
        q = rearrange(self.q(self.latent), "1 1 (heads k) -> 1 heads 1 k", heads=self.num_heads)
        k, v = rearrange(self.kv(x), "b r (two heads k) -> two b heads r k", two=2, heads=self.num_heads)
        q = q.expand(x.shape[0], -1, members.shape[1], -1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=members[:, None])
        pooled = self.proj(rearrange(out, "b heads m k -> b m (heads k)"))
        return pooled + self.mlp(self.norm(pooled))

    def init_weights(self, generator: Generator | None = None) -> None:
        """Initialises the query as big_vision does: Xavier uniform, as a matrix from one input to `width` outputs."""
        nn.init.xavier_uniform_(self.latent[0], generator=generator)
