"""Linear probes over a grid of features and learning rates, as DINOv2 is evaluated (arXiv 2304.07193, section 7.1)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vitral.evals.features import FeatureSet
from vitral.evals.linear_sgd import BATCH_SIZE, EPOCHS, LEARNING_RATES, head_logits, train_linear_heads

__all__ = ["Columns", "LinearGrid", "linear_grid"]

MIN_STEPS = 200
"""Steps of SGD on few images, where 20 epochs would be too short."""

Columns = tuple[slice, ...]
"""The columns of a feature set that are side by side in one of the features compared."""


@dataclass(frozen=True, kw_only=True)
class LinearGrid:
    """The result of a grid of linear probes."""

    predictions: Int64[Tensor, " m"]
    """Classes of the test images, by the best probe."""
    accuracies: dict[str, dict[str, float]]
    """Accuracy on the validation images, by the name of the features and by learning rate."""


def linear_grid(
    train: FeatureSet, val: FeatureSet, test: FeatureSet, *, variants: Mapping[str, Columns], num_classes: int
) -> LinearGrid:
    """Trains a linear head for each of the variants and learning rates, and selects the first of the best on the
    validation images; training and validation images together then train it again.

    Args:
        train: features of the training images.
        val: features of the images that select.
        test: features of the test images.
        variants: columns of the features by name.
        num_classes: number of classes.
    """
    accuracies: dict[str, dict[str, float]] = {}
    for name, columns in variants.items():
        logits = _classify(train, val, columns, rates=LEARNING_RATES, num_classes=num_classes)
        correct = (logits.argmax(2) == val.labels[:, None]).double().mean(0).tolist()
        accuracies[name] = {f"{rate:g}": value for rate, value in zip(LEARNING_RATES, correct, strict=True)}
    best = max(accuracies, key=lambda name: max(accuracies[name].values()))
    rate = max(LEARNING_RATES, key=lambda rate: accuracies[best][f"{rate:g}"])
    both = FeatureSet.concatenate([train, val])
    logits = _classify(both, test, variants[best], rates=(rate,), num_classes=num_classes)
    return LinearGrid(predictions=logits[:, 0].argmax(1), accuracies=accuracies)


def _classify(
    train: FeatureSet, other: FeatureSet, columns: Columns, *, rates: tuple[float, ...], num_classes: int
) -> Float[Tensor, "m rates classes"]:
    """Logits of other images by a head for each learning rate; features are standardised as the training images'."""
    known, queries = (torch.cat([part.features[:, column] for column in columns], 1) for part in (train, other))
    mean, std = known.mean(0), known.std(0).clamp(min=1e-6)
    epochs = max(EPOCHS, -(-MIN_STEPS * min(BATCH_SIZE, len(known)) // len(known)))
    weight, bias = train_linear_heads(
        (known - mean) / std, train.labels, rates=rates, num_classes=num_classes, epochs=epochs
    )
    return torch.cat([head_logits((chunk - mean) / std, weight, bias) for chunk in queries.split(BATCH_SIZE)])
