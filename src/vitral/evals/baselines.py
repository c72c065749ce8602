"""What simple classifiers reach on the same images: the accuracies that a trained model has to beat."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vitral.evals.features import FeatureSet
from vitral.evals.linear import fit_logistic_regression

__all__ = ["PIXELS", "Baselines", "PretrainedProbe", "fit_baselines"]

PIXELS = 32
"""Height and width that images are shrunk to."""

STRENGTH = 0.01
"""scikit-learn's C for pixels in -1..1; the best of 0.001 to 1 on 1,600 images of Fashion-MNIST."""

MAX_CLASSES = 200
"""With more classes, logistic regression would take minutes."""

STEPS, OPERATIONS = (20, 100), 10**10
"""Fewest and most L-BFGS steps, and images times pixels times classes times steps: a few seconds."""

CHUNK_SIZE = 1024
"""Test images compared with all training images at a time."""


@dataclass(frozen=True, kw_only=True)
class PretrainedProbe:
    """Accuracy of logistic regression on the features of a pretrained model."""

    model: str
    """Name of the model."""
    accuracy: float
    num_train: int
    """Training images that it is fitted on."""
    num_test: int
    """Test images that it is evaluated on."""


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """Accuracies on test images, as fractions."""

    majority_class: float
    """Of always the most frequent class of the training images."""
    nearest_neighbour: float
    """Of the class of the training image with the nearest pixels, by Euclidean distance."""
    logistic_regression: float | None
    """Of logistic regression on the pixels; None with hundreds of classes."""
    num_train: int
    """Training images that they are fitted on."""
    num_test: int
    """Test images that they are evaluated on."""
    linear_probe: PretrainedProbe | None = None
    """None if no pretrained model is at hand."""

    def accuracies(self) -> dict[str, float]:
        """The accuracies by name."""
        names = ("logistic_regression", "nearest_neighbour", "majority_class")
        probe = {"linear_probe": self.linear_probe.accuracy} if self.linear_probe else {}
        return probe | {name: value for name in names if (value := getattr(self, name)) is not None}


def fit_baselines(train: FeatureSet, test: FeatureSet, *, counts: Int64[np.ndarray, " classes"]) -> Baselines:
    """Fits the baselines to training images and evaluates them on test images.

    Args:
        train: pixels of training images, in -1..1, at least one.
        test: pixels of test images, at least one.
        counts: images of each class among all training images.
    """
    num_classes = len(counts)
    regression = None
    if len(train.labels.unique()) > 1 and num_classes <= MAX_CLASSES:
        steps = int(np.clip(OPERATIONS // (train.features.numel() * num_classes), *STEPS))
        model = fit_logistic_regression(train.features, train.labels, STRENGTH, steps=steps)
        regression = _accuracy(torch.from_numpy(model.predict(test.features.double().numpy())), test.labels)
    return Baselines(
        majority_class=(test.labels == int(counts.argmax())).double().mean().item(),
        nearest_neighbour=_accuracy(_nearest(train, test.features), test.labels),
        logistic_regression=regression,
        num_train=len(train.labels),
        num_test=len(test.labels),
    )


def _nearest(train: FeatureSet, queries: Float[Tensor, "m d"]) -> Int64[Tensor, " m"]:
    """The class of the training image nearest to each query."""
    nearest = [torch.cdist(chunk, train.features).argmin(1) for chunk in queries.split(CHUNK_SIZE)]
    return train.labels[torch.cat(nearest)]


def _accuracy(predicted: Int64[Tensor, " m"], truth: Int64[Tensor, " m"]) -> float:
    return (predicted == truth).double().mean().item()
