"""Dropping patches in training (Li et al., FLIP, arXiv 2212.00794)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["PatchDropout"]


class PatchDropout(nn.Module):
    """In training keeps a random subset of each image's patches, in order. Tokens before the patches always stay."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Float[Tensor, "b t d"], prefix: int) -> Float[Tensor, "b u d"]:
        """
        Args:
            x: the tokens.
            prefix: number of tokens before the patches.
        """
        if not self.training or self.rate == 0:
            return x
        n = x.shape[1] - prefix
        num_kept = max(1, round(n * (1 - self.rate)))
        indices = torch.rand(x.shape[0], n, device=x.device).argsort(dim=1)[:, :num_kept].sort(dim=1).values
        patches = x[:, prefix:].gather(1, indices[:, :, None].expand(-1, -1, x.shape[2]))
        return torch.cat([x[:, :prefix], patches], dim=1)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"
