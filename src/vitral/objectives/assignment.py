"""From a teacher's outputs to probabilities of prototypes that do not collapse; and KoLeo, which spreads features."""

import torch
import torch.distributed
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vitral.device import precise_dtype
from vitral.distributed.world import all_reduce_sum

__all__ = ["Centre", "koleo", "sinkhorn"]


class Centre(nn.Module):
    """The running mean of outputs. Subtracting it keeps them from collapsing to one prototype (DINO, equation 4)."""

    def __init__(self, prototypes: int, *, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.mean = nn.Buffer(torch.zeros(prototypes))
        self.total = nn.Buffer(torch.zeros(prototypes))
        self.count = nn.Buffer(torch.zeros(()))

    @torch.no_grad()
    def accumulate(self, outputs: Float[Tensor, "n prototypes"], readable: Bool[Tensor, " n"]) -> None:
        """Adds the outputs of readable images to the next update; called once for each part of a batch."""
        if self.training:
            self.total += torch.where(readable[:, None], outputs, 0.0).sum(0)
            self.count += readable.sum()

    @torch.no_grad()
    def update(self) -> None:
        """Moves the running mean towards the mean over all processes of the outputs since the last update."""
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
    """Probabilities that assign every prototype an equal part of the batch, over all processes (Sinkhorn and Knopp
    1967, as in SwAV, arXiv 2006.09882): rows sum to 1, columns approximately to n / prototypes. Rows of unreadable
    images are excluded.
    """
    precise = precise_dtype(logits.device)
    smallest = 1e-300 if precise is torch.float64 else torch.finfo(precise).tiny
    scaled = torch.where(readable[:, None], (logits / temperature).to(precise), torch.finfo(precise).min)
    # a constant subtracted from all logits cancels; the maximum over all processes keeps rows from underflowing
    top = scaled.max()
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(top, torch.distributed.ReduceOp.MAX)
    weights = (scaled - top).exp()
    for _ in range(rounds):
        weights = weights / all_reduce_sum(weights.sum(0)).clamp(min=smallest)
        weights = weights / weights.sum(1, keepdim=True).clamp(min=smallest)
    return weights.to(logits.dtype)


def koleo(features: Float[Tensor, "b d"], readable: Bool[Tensor, " b"]) -> Float[Tensor, " b"]:
    """-log of each image's distance to its nearest neighbour in the batch, on the unit sphere (arXiv 1806.03198): lower
    if features are spread more evenly. Unreadable images are excluded. 0 for an image without neighbours.
    """
    points = F.normalize(features.float(), dim=1)
    with torch.no_grad():
        similarity = (points @ points.T).fill_diagonal_(-2.0)
        nearest = similarity.masked_fill(~readable, -2.0).argmax(1)
    values = -((points - points[nearest]).norm(dim=1) + 1e-8).log()
    return torch.where(readable & (readable.sum() > 1), values, 0.0)
