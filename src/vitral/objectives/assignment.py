"""What a teacher's outputs mean: probabilities of prototypes that do not collapse to one; and features that spread."""

import torch
import torch.distributed
import torch.nn.functional as F
from jaxtyping import Bool, Float
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
    def accumulate(self, outputs: Float[Tensor, "n prototypes"], readable: Bool[Tensor, " n"]) -> None:
        """Adds outputs to the next update, but for those of unreadable images; a step may have several parts."""
        if self.training:
            self.total += torch.where(readable[:, None], outputs, 0.0).sum(0)
            self.count += readable.sum()

    @torch.no_grad()
    def update(self) -> None:
        """Moves the mean towards that of all outputs of all processes since the last update."""
        count = all_reduce_sum(self.count)
        mean = all_reduce_sum(self.total) / count.clamp(min=1)
        self.mean.lerp_(torch.where(count > 0, mean, self.mean), 1 - self.momentum)
        self.total.zero_()
        self.count.zero_()


def sinkhorn(
    logits: Float[Tensor, "n prototypes"],
    *,
    temperature: float | Float[Tensor, ""],
    readable: Bool[Tensor, " n"],
    rounds: int = 3,
) -> Float[Tensor, "n prototypes"]:
    """Probabilities that give every prototype an equal part of the batch, over all processes (Sinkhorn and Knopp 1967,
    as in SwAV, arXiv 2006.09882): rows sum to 1, columns nearly to n / prototypes. Rows of unreadable images count for
    nothing.
    """
    lowest = torch.finfo(torch.float64).min
    scaled = torch.where(readable[:, None], (logits / temperature).double(), lowest)
    # subtracting any constant from all logits changes nothing; the maximum over all processes keeps rows from vanishing
    top = scaled.max()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(top, torch.distributed.ReduceOp.MAX)
    weights = (scaled - top).exp()
    for _ in range(rounds):
        weights = weights / all_reduce_sum(weights.sum(0)).clamp(min=1e-300)
        weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-300)
    return weights.to(logits.dtype)


def koleo(features: Float[Tensor, "b d"], readable: Bool[Tensor, " b"]) -> Float[Tensor, " b"]:
    """-log of each image's distance to its nearest neighbour in the batch, on the unit sphere (arXiv 1806.03198): lower
    the more evenly features are spread. Unreadable images are nobody's neighbours; without a neighbour it is 0.
    """
    points = F.normalize(features.float(), dim=1)
    with torch.no_grad():
        similarity = (points @ points.T).fill_diagonal_(-2.0)
        nearest = similarity.masked_fill(~readable, -2.0).argmax(1)
    values = -((points - points[nearest]).norm(dim=1) + 1e-8).log()
    return torch.where(readable & (readable.sum() > 1), values, 0.0)
