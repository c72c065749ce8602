"""A linear probe for large sets: many learning rates at once, by gradient descent."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor

from vitral.data.order import sample_at

__all__ = ["RATES", "sgd_heads", "sgd_predictions"]

RATES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Learning rates to choose from, times the number of features: a step moves logits alike whatever that is."""

EPOCHS, BATCH_SIZE, MOMENTUM = 20, 512, 0.9


def sgd_predictions(
    known: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    asked: Float[Tensor, "m d"],
    *,
    held_out: Int64[Tensor, " h"],
    rest: Int64[Tensor, " r"],
) -> Int64[Tensor, " m"]:
    """The class that a linear head tells, its rate chosen on a held-out slice, then trained on all.

    Args:
        known: standardised features to learn from.
        labels: their classes.
        asked: features to classify.
        held_out: rows that the rate is chosen on.
        rest: the other rows.
    """
    num_classes = int(labels.max()) + 1
    weight, bias = sgd_heads(known[rest], labels[rest], rates=RATES, num_classes=num_classes)
    told = logits_of(known[held_out], weight, bias).argmax(2)
    best = RATES[int((told == labels[held_out][:, None]).sum(0).argmax())]
    weight, bias = sgd_heads(known, labels, rates=(best,), num_classes=num_classes)
    return torch.cat([logits_of(part, weight, bias)[:, 0].argmax(1) for part in asked.split(BATCH_SIZE)])


@torch.no_grad()
def sgd_heads(
    features: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    *,
    rates: Sequence[float],
    num_classes: int,
    epochs: int = EPOCHS,
    seed: int = 0,
) -> tuple[Float[Tensor, "rates classes d"], Float[Tensor, "rates classes"]]:
    """Weights and biases of a head for each rate, all trained in one pass over the same batches: momentum 0.9, cosine
    decay, from zero; their losses do not touch one another.

    Args:
        features: standardised.
        labels: classes.
        rates: learning rates, as in `RATES`.
        num_classes: classes in all.
        epochs: times through the features.
        seed: of their order.
    """
    count, width = features.shape
    peak = torch.tensor(rates, dtype=features.dtype) / width
    weight = torch.zeros(len(rates), num_classes, width, dtype=features.dtype)
    bias = torch.zeros(len(rates), num_classes, dtype=features.dtype)
    velocities = [torch.zeros_like(weight), torch.zeros_like(bias)]
    batch = min(BATCH_SIZE, count)
    steps = max(epochs * count // batch, 1)
    for step in range(steps):
        rows = torch.from_numpy(sample_at(np.arange(step * batch, (step + 1) * batch), size=count, seed=seed)[1])
        x = features[rows]
        error = logits_of(x, weight, bias).softmax(2) - F.one_hot(labels[rows], num_classes)[:, None]
        gradients = torch.einsum("b r c, b d -> r c d", error, x) / batch, error.mean(0)
        rate = peak * (1 + np.cos(np.pi * step / steps)) / 2
        for value, velocity, gradient in zip((weight, bias), velocities, gradients, strict=True):
            velocity.mul_(MOMENTUM).add_(gradient)
            value.sub_(velocity * rate.reshape(-1, *[1] * (value.ndim - 1)))
    return weight, bias


def logits_of(
    x: Float[Tensor, "b d"], weight: Float[Tensor, "rates classes d"], bias: Float[Tensor, "rates classes"]
) -> Float[Tensor, "b rates classes"]:
    """What each head says."""
    flat = F.linear(x, rearrange(weight, "r c d -> (r c) d"), rearrange(bias, "r c -> (r c)"))
    return rearrange(flat, "b (r c) -> b r c", r=len(weight))
