"""Exponential moving average (EMA) of the weights, which is evaluated and saved instead of them."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["update_average", "warmed_up"]


def warmed_up(decay: float, *, updates: int) -> float:
    """The decay of the next update: small at first, so that the average forgets the initial weights in a short run.

    Args:
        decay: the final value.
        updates: number of earlier updates.
    """
    return min(decay, (1 + updates) / (10 + updates))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, *, decay: float) -> None:
    """Updates the average of each trained weight in place: decay * average + (1 - decay) * model."""
    pairs = zip(average.parameters(), model.parameters(), strict=True)
    trained = [(mean, weight) for mean, weight in pairs if weight.requires_grad]
    # one call for all weights, which saves hundreds of kernel launches
    averaged: list[Tensor] = [mean for mean, _ in trained]
    get_ema_multi_avg_fn(decay)(averaged, [weight for _, weight in trained], 0)
