"""What a teacher's outputs mean: probabilities of prototypes that do not collapse to one; and features that spread."""

import torch
import torch.distributed
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vitral.distributed.world import all_reduce_sum

__all__ = ["Centre", "koleo", "sinkhorn"]


class Centre(nn.Module):
    """The running mean of outputs; taken off, it keeps them from collapsing to one prototype (DINO, equation 4)."""

    def __init__(self, prototypes: int, *, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.mean = nn.Buffer(torch.zeros(prototypes))
        self.total = nn.Buffer(torch.zeros(prototypes))
        self.count = nn.Buffer(torch.zeros(()))

    @torch.no_grad()
    def remember(self, outputs: Float[Tensor, "n prototypes"]) -> None:
        """Takes note of outputs for the next update; a step may have several parts."""
        if self.training:
            self.total += outputs.sum(0)
            self.count += len(outputs)

    @torch.no_grad()
    def update(self) -> None:
        """Moves the mean towards that of all outputs of all processes since the last update."""
        count = all_reduce_sum(self.count)
        mean = all_reduce_sum(self.total) / count.clamp(min=1)
        self.mean.lerp_(torch.where(count > 0, mean, self.mean), 1 - self.momentum)
        self.total.zero_()
        self.count.zero_()


def sinkhorn(
    logits: Float[Tensor, "b prototypes"], *, temperature: float | Float[Tensor, ""], rounds: int = 3
) -> Float[Tensor, "b prototypes"]:
    """Probabilities that give every prototype as much of the batch, over all processes (Sinkhorn and Knopp 1967, as in
    SwAV, arXiv 2006.09882): rows sum to 1, columns nearly to b / prototypes.
    """
    scaled = (logits / temperature).double()
    # any number may be taken off all: the largest of all processes, or rows could vanish
    top = scaled.max()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(top, torch.distributed.ReduceOp.MAX)
    shares = (scaled - top).exp()
    for _ in range(rounds):
        shares = shares / all_reduce_sum(shares.sum(0)).clamp(min=1e-300)
        shares = shares / shares.sum(1, keepdim=True).clamp(min=1e-300)
    return shares.to(logits.dtype)


def koleo(features: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    """-log of the distance of each image to the nearest of its batch, on the unit sphere (arXiv 1806.03198): less the
    more evenly features are spread. 0 for an image alone.
    """
    if len(features) < 2:
        return torch.zeros_like(features[:, 0])
    points = F.normalize(features.float(), dim=1)
    with torch.no_grad():
        similarity = points @ points.T
        nearest = similarity.fill_diagonal_(-2.0).argmax(1)
    return -((points - points[nearest]).norm(dim=1) + 1e-8).log()
