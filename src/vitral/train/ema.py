"""The running average of the weights, evaluated and saved in their place."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["update_average", "warmed_up"]


def warmed_up(decay: float, *, updates: int) -> float:
    """The decay of the next update: small at first, or the initial weights would weigh on the average of a short run.

    Args:
        decay: what it grows to.
        updates: how many there were before.
    """
    return min(decay, (1 + updates) / (10 + updates))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, *, decay: float) -> None:
    """Moves each averaged weight towards the model's, in place: decay * average + (1 - decay) * model."""
    pairs = zip(average.parameters(), model.parameters(), strict=True)
    moving = [(mean, weight) for mean, weight in pairs if weight.requires_grad]
    # all weights in one call, which spares a GPU hundreds of small ones
    averaged: list[Tensor] = [mean for mean, _ in moving]
    get_ema_multi_avg_fn(decay)(averaged, [weight for _, weight in moving], 0)
