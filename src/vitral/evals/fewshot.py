"""Few-shot classification of frozen representations by regularised least squares, in closed form (paper, section 4.1).

Two published forms: big_vision's, with one fixed strength over standardised features, and that of older forks of the
paper's code, with a grid of strengths of which one is best for all data sets together.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

__all__ = ["FIXED", "GRID", "SHOTS", "best_strength", "few", "least_squares", "predictions"]

SHOTS = (1, 5, 10, 25)
"""Images of each class."""

FIXED = 2.0**10
"""big_vision's strength of regularisation."""

GRID = tuple(2.0**power for power in range(-10, 20))
"""The older forks' strengths."""

BIAS = 100.0
"""Value of the feature that every image has: so large that it is hardly regularised."""


def few(labels: Int64[Tensor, " n"], shots: int, *, num_classes: int, seed: int | None) -> Int64[Tensor, " m"]:
    """The images to learn from: `shots` of each class, or all where there are fewer.

    Args:
        labels: class of each image.
        shots: images of each class.
        num_classes: classes in all.
        seed: draws them, class after class, as big_vision does; None: the first of each class.
    """
    random = None if seed is None else np.random.default_rng(seed)
    rows = []
    for label in range(num_classes):
        members = (labels == label).nonzero()[:, 0]
        order = np.arange(len(members)) if random is None else random.permutation(len(members))
        rows.append(members[torch.from_numpy(order[:shots])])
    return torch.cat(rows)


def least_squares(
    features: Float64[Tensor, "n d"], targets: Float64[Tensor, "n k"], strengths: Sequence[float]
) -> Float64[Tensor, "s d k"]:
    """(X'X + l2 I)^-1 X'Y for each strength l2, by one decomposition of the smaller of X'X and XX'."""
    n, d = features.shape
    if n >= d:
        values, left = torch.linalg.eigh(features.T @ features)
        right = left.T @ (features.T @ targets)
    else:
        values, vectors = torch.linalg.eigh(features @ features.T)
        left, right = features.T @ vectors, vectors.T @ targets
    return torch.stack([(left / (values + l2)) @ right for l2 in strengths])


def predictions(
    train: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    test: Float[Tensor, "m d"],
    *,
    num_classes: int,
    strengths: Sequence[float] = (FIXED,),
) -> Int64[Tensor, "s m"]:
    """The class of each test image for each strength: the largest of the outputs that were fitted to -1 and 1.

    Features are standardised by the few images' own mean and deviation.
    """
    mean, deviation = train.double().mean(0), train.double().std(0, correction=0) + 1e-5

    def prepared(features: Float[Tensor, "b d"]) -> Float64[Tensor, "b e"]:
        standard = (features.double() - mean) / deviation
        return torch.cat([standard, torch.full((len(features), 1), BIAS, dtype=torch.float64)], dim=1)

    targets = 2 * torch.nn.functional.one_hot(labels, num_classes).double() - 1
    weights = least_squares(prepared(train), targets, strengths)
    return (prepared(test) @ weights).argmax(2)


def best_strength(accuracies: Mapping[str, Sequence[float]]) -> int:
    """Which strength of the grid has the best mean rank over data sets, the smallest of equals.

    Args:
        accuracies: of each data set, one for each strength.
    """
    ranks = []
    for values in accuracies.values():
        order = np.asarray(values, float)
        # the mean rank of those that are equal, 0 for the worst
        ranks.append([(order < value).sum() + ((order == value).sum() - 1) / 2 for value in order])
    return int(np.argmax(np.mean(ranks, axis=0)))
