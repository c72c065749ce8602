"""Stochastic depth: skipping residual branches in training (Huang et al., arXiv 1603.09382)."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.layers.places import Place

__all__ = ["DropPath", "SubsetBlock"]


class DropPath(nn.Module):
    """Drops what a branch would add to an image, each image for itself, and scales up what stays."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        if not self.training:
            return x
        kept = torch.rand(x.shape[0], 1, 1, device=x.device) >= self.rate
        return x * kept.to(x.dtype) / (1 - self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


class SubsetBlock(nn.Module):
    """A block whose branches are computed for a random part of the batch only (DINOv2, arXiv 2304.07193).

    The part has the same size in every step, so that the computation of the rest is saved; what is added is scaled up
    so that its mean is the whole branch's. Outside training it is the block itself, whose parts it takes over under
    their names.
    """

    def __init__(self, block: Any, rate: float) -> None:
        """
        Args:
            block: has norm1, attn, ls1, norm2, mlp and ls2.
            rate: share of the batch that each branch leaves out.
        """
        super().__init__()
        self.rate = rate
        self.norm1, self.attn, self.ls1 = block.norm1, block.attn, block.ls1
        self.norm2, self.mlp, self.ls2 = block.norm2, block.mlp, block.ls2

    def forward(self, x: Float[Tensor, "b t d"], place: Place, read: slice = slice(None)) -> Float[Tensor, "b r d"]:
        x = self._added(x[:, read], x, lambda some: self.ls1(self.attn(self.norm1(some), place, read)))
        return self._added(x, x, lambda some: self.ls2(self.mlp(self.norm2(some))))

    def _added(self, onto: Tensor, x: Tensor, branch: Callable[[Tensor], Tensor]) -> Tensor:
        """`onto`, with what the branch makes of some images of `x` added to these."""
        if not self.training:
            return onto + branch(x)
        count = max(1, round(x.shape[0] * (1 - self.rate)))
        some = torch.randperm(x.shape[0], device=x.device)[:count]
        return onto.index_add(0, some, branch(x[some]).to(onto.dtype), alpha=x.shape[0] / count)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"
