"""Stochastic depth: skipping residual branches in training (Huang et al., arXiv 1603.09382)."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.layers.positions.state import PositionState

__all__ = ["DropPath", "SubsetBlock", "add_to_subset"]

ALL = slice(None)


class DropPath(nn.Module):
    """Zeroes a branch's output for random images of the batch, and scales up that of the others."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        if not self.training:
            return x
        keep_mask = torch.rand(x.shape[0], 1, 1, device=x.device) >= self.rate
        return x * keep_mask.to(x.dtype) / (1 - self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


class SubsetBlock(nn.Module):
    """A block that computes each branch for a random subset of the batch only (DINOv2, arXiv 2304.07193).

    The subset has the same size in every step, and the rest of the batch costs nothing. The branch's output is scaled
    up, so that its expected value is that of the whole branch. In evaluation it computes what the block computes. It
    takes over the block's parts under the same names.
    """

    def __init__(self, block: Any, rate: float) -> None:
        """
        Args:
            block: has norm1, attn, ls1, norm2, mlp and ls2.
            rate: fraction of the batch that each branch skips.
        """
        super().__init__()
        self.rate = rate
        self.norm1, self.attn, self.ls1 = block.norm1, block.attn, block.ls1
        self.norm2, self.mlp, self.ls2 = block.norm2, block.mlp, block.ls2

    def forward(self, x: Float[Tensor, "b t d"], pos: PositionState, queries: slice = ALL) -> Float[Tensor, "b r d"]:
        rate = self.rate if self.training else 0.0
        x = pos.add(x)
        x = add_to_subset(x[:, queries], x, lambda some: self.ls1(self.attn(self.norm1(some), pos, queries)), rate)
        return add_to_subset(x, x, lambda some: self.ls2(self.mlp(self.norm2(some))), rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


def add_to_subset(
    residual: Float[Tensor, "b r d"], x: Float[Tensor, "b t d"], branch: Callable[[Tensor], Tensor], rate: float
) -> Float[Tensor, "b r d"]:
    """Computes a branch for some images of `x` and adds its output to theirs in `residual`.

    Args:
        residual: what the output is added to.
        x: input of the branch.
        branch: from images to what is added to them.
        rate: fraction of images to skip; 0 computes all.
    """
    if rate == 0:
        return residual + branch(x)
    count = max(1, round(x.shape[0] * (1 - rate)))
    some = torch.randperm(x.shape[0], device=x.device)[:count]
    return residual.index_add(0, some, branch(x[some]).to(residual.dtype), alpha=x.shape[0] / count)
