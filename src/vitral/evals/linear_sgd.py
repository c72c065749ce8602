"""Linear probe for large sets: SGD with several learning rates at once."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor

from vitral.data.order import sample_at

__all__ = ["BATCH_SIZE", "EPOCHS", "LEARNING_RATES", "head_logits", "sgd_predictions", "train_linear_heads"]

LEARNING_RATES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Candidate learning rates times the number of features, so that a step changes logits equally for every width."""

EPOCHS, BATCH_SIZE, MOMENTUM = 20, 512, 0.9


def sgd_predictions(
    train: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    test: Float[Tensor, "m d"],
    *,
    val: Int64[Tensor, " v"],
    rest: Int64[Tensor, " r"],
) -> Int64[Tensor, " m"]:
    """Classes predicted by a linear head; its learning rate is selected on a held-out subset, then all images train it.

    Args:
        train: standardised features of the training images.
        labels: their classes.
        test: standardised features of the test images.
        val: indices of the held-out training images.
        rest: indices of the other training images.
    """
    num_classes = int(labels.max()) + 1
    weight, bias = train_linear_heads(train[rest], labels[rest], rates=LEARNING_RATES, num_classes=num_classes)
    predicted = head_logits(train[val], weight, bias).argmax(2)
    best = LEARNING_RATES[int((predicted == labels[val][:, None]).sum(0).argmax())]
    weight, bias = train_linear_heads(train, labels, rates=(best,), num_classes=num_classes)
    return torch.cat([head_logits(chunk, weight, bias)[:, 0].argmax(1) for chunk in test.split(BATCH_SIZE)])


@torch.no_grad()
def train_linear_heads(
    features: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    *,
    rates: Sequence[float],
    num_classes: int,
    epochs: int = EPOCHS,
    seed: int = 0,
) -> tuple[Float[Tensor, "rates classes d"], Float[Tensor, "rates classes"]]:
    """Weights and biases of one head per learning rate, trained independently on the same batches.

    SGD with momentum 0.9 and cosine decay, from zero weights.

    Args:
        features: standardised.
        labels: classes.
        rates: learning rates, as in `LEARNING_RATES`.
        num_classes: number of classes.
        epochs: passes over the features.
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
        x, targets = features, labels
        if batch < count:
            rows = torch.from_numpy(sample_at(np.arange(step * batch, (step + 1) * batch), size=count, seed=seed)[1])
            x, targets = features[rows], labels[rows]
        error = head_logits(x, weight, bias).softmax(2) - F.one_hot(targets, num_classes)[:, None]
        gradients = torch.einsum("b r c, b d -> r c d", error, x) / batch, error.mean(0)
        rate = peak * (1 + np.cos(np.pi * step / steps)) / 2
        for value, velocity, gradient in zip((weight, bias), velocities, gradients, strict=True):
            velocity.mul_(MOMENTUM).add_(gradient)
            value.sub_(velocity * rate.reshape(-1, *[1] * (value.ndim - 1)))
    return weight, bias


def head_logits(
    x: Float[Tensor, "b d"], weight: Float[Tensor, "rates classes d"], bias: Float[Tensor, "rates classes"]
) -> Float[Tensor, "b rates classes"]:
    """The logits of every head."""
    flat = F.linear(x, rearrange(weight, "r c d -> (r c) d"), rearrange(bias, "r c -> (r c)"))
    return rearrange(flat, "b (r c) -> b r c", r=len(weight))
