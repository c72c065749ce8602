"""Few-shot classification of frozen features by regularised least squares, in closed form (paper, section 4.1).

Two published forms: big_vision's, with one fixed strength on standardised features; and that of older forks of the
paper's code, with a grid of strengths of which the best over all data sets is used.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

__all__ = [
    "BIAS_VALUE",
    "FIXED_STRENGTH",
    "SHOTS",
    "STRENGTH_GRID",
    "best_strength",
    "few_shot_predictions",
    "ridge_regression",
    "sample_few_shot",
]

SHOTS = (1, 5, 10, 25)
"""Images per class."""

FIXED_STRENGTH = 2.0**10
"""big_vision's strength of L2 regularisation."""

STRENGTH_GRID = tuple(2.0**power for power in range(-10, 20))
"""Strengths of the older forks."""

BIAS_VALUE = 100.0
"""Value of the constant feature: so large that its weight, the bias, is hardly regularised."""


def sample_few_shot(
    labels: Int64[Tensor, " n"], shots: int, *, num_classes: int, seed: int | None
) -> Int64[Tensor, " m"]:
    """Indices of `shots` images of each class, or of all images of a class that has fewer.

    Args:
        labels: class of each image.
        shots: images per class.
        num_classes: number of classes.
        seed: of the random sample, drawn class after class as in big_vision; None: the first images of each class.
    """
    generator = None if seed is None else np.random.default_rng(seed)
    rows = []
    for label in range(num_classes):
        members = (labels == label).nonzero()[:, 0]
        order = np.arange(len(members)) if generator is None else generator.permutation(len(members))
        rows.append(members[torch.from_numpy(order[:shots])])
    return torch.cat(rows)


def ridge_regression(
    features: Float64[Tensor, "n d"], targets: Float64[Tensor, "n k"], strengths: Sequence[float]
) -> Float64[Tensor, "s d k"]:
    """(X'X + l2 I)^-1 X'Y for each strength l2, from one eigendecomposition of the smaller of X'X and XX'."""
    n, d = features.shape
    if n >= d:
        values, left = torch.linalg.eigh(features.T @ features)
        right = left.T @ (features.T @ targets)
    else:
        values, vectors = torch.linalg.eigh(features @ features.T)
        left, right = features.T @ vectors, vectors.T @ targets
    return torch.stack([(left / (values + l2)) @ right for l2 in strengths])


def few_shot_predictions(
    train: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    test: Float[Tensor, "m d"],
    *,
    num_classes: int,
    strengths: Sequence[float] = (FIXED_STRENGTH,),
) -> Int64[Tensor, "s m"]:
    """The predicted class of each test image for each strength: the largest output of a regression onto -1 and 1.

    Features are standardised with the mean and standard deviation of the training images.
    """
    mean, std = train.double().mean(0), train.double().std(0, correction=0) + 1e-5

    def standardise(features: Float[Tensor, "b d"]) -> Float64[Tensor, "b e"]:
        standard = (features.double() - mean) / std
        return torch.cat([standard, torch.full((len(features), 1), BIAS_VALUE, dtype=torch.float64)], dim=1)

    targets = 2 * torch.nn.functional.one_hot(labels, num_classes).double() - 1
    weights = ridge_regression(standardise(train), targets, strengths)
    return (standardise(test) @ weights).argmax(2)


def best_strength(accuracies: Mapping[str, Sequence[float]]) -> int:
    """Index of the strength with the best mean rank over data sets; the smallest strength among equals.

    Args:
        accuracies: for each data set, the accuracy of each strength.
    """
    ranks = []
    for values in accuracies.values():
        order = np.asarray(values, float)
        # ties share their mean rank; 0 is the worst
        ranks.append([(order < value).sum() + ((order == value).sum() - 1) / 2 for value in order])
    return int(np.argmax(np.mean(ranks, axis=0)))
