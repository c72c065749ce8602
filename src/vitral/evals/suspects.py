"""Images whose label is probably wrong, which resemble no other, or which could be of two classes.

Probabilities come from logistic regression on a model's features, each image predicted by a regression that was fitted
without it. Confident learning (arXiv 1911.00068, as cleanlab implements it) finds wrong labels among them: an image is
more probable in another class than images of that class are on average.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from vitral.data.extra import optional
from vitral.data.order import uniform
from vitral.errors import UserError
from vitral.evals.linear import fit_logistic_regression

__all__ = ["Suspects", "cross_validated_probabilities", "find_suspects"]

FOLDS = 5

STRENGTHS = (0.001, 0.01, 0.1)
"""Candidate inverse strengths of regularisation, of which the probabilities that fit the labels best are used."""

STEPS = 200
"""Maximum number of L-BFGS steps."""

NEIGHBOURS = 10
"""Images among which an outlier is far from all."""

FAR = 3.0
"""Interquartile ranges above the third quartile from which a distance is an outlier's."""

MOST_AMBIGUOUS = 0.01
"""Fraction of the images that are listed as ambiguous."""

CHUNK_SIZE = 1024
"""Images compared with all others at a time."""


@dataclass(frozen=True, kw_only=True)
class Suspects:
    """Images to look at, by their row."""

    ranking: Int64[np.ndarray, " n"]
    """All images, that with the most doubtful label first."""
    wrong: Bool[np.ndarray, " n"]
    """Whether the label is probably wrong."""
    likely: Int64[np.ndarray, " n"]
    """The most probable class of each image."""
    quality: Float64[np.ndarray, " n"]
    """How well each image's label fits, from 0 to 1."""
    distances: Float64[np.ndarray, " n"]
    """Mean cosine distance to the nearest images."""
    outliers: Int64[np.ndarray, " k"]
    """Images far from all others, the farthest first."""
    ambiguous: Int64[np.ndarray, " m"]
    """Images whose two most probable classes are nearly as probable, the closest first, without wrong labels."""


def find_suspects(
    features: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    *,
    pixels: Float[Tensor, "n p"] | None = None,
    seed: int = 0,
) -> Suspects:
    """Finds images to look at.

    Args:
        features: of a model that was not trained on these labels, or only briefly.
        labels: class of each image.
        pixels: of the images shrunk, whose probabilities are combined with those of the features; they have not learned
            any wrong label.
        seed: of the folds.

    Raises:
        UserError: cleanlab is not installed, or there are too few images or classes.
    """
    filtering = optional("cleanlab.filter", purpose="finding wrong labels", extra="clean")
    ranking = optional("cleanlab.rank", purpose="finding wrong labels", extra="clean")
    present, compact = np.unique(labels.numpy(), return_inverse=True)
    if len(present) < 2 or len(labels) < 2 * FOLDS:
        raise UserError(f"finding wrong labels needs at least two classes and {2 * FOLDS} images")
    views = [features] if pixels is None else [features, pixels]
    each = [cross_validated_probabilities(view, torch.from_numpy(compact), seed=seed) for view in views]
    # their geometric mean: of 100 labels flipped among 2,000 of Fashion-MNIST, the first 200 hold 90, without pixels 74
    probabilities = np.exp(np.mean([np.log(one.clip(1e-12)) for one in each], axis=0))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    wrong = filtering.find_label_issues(compact, probabilities, n_jobs=1)
    quality = ranking.get_label_quality_scores(compact, probabilities, method="self_confidence")
    two = np.sort(probabilities, axis=1)[:, -2:]
    margins = np.where(wrong, np.inf, two[:, 1] - two[:, 0])
    most = min(max(1, round(MOST_AMBIGUOUS * len(labels))), int((~wrong).sum()))
    distances = _neighbour_distances(features)
    return Suspects(
        # by the quality of all, as the filter's own order has the flagged only
        ranking=np.argsort(quality, kind="stable"),
        wrong=wrong,
        likely=present[probabilities.argmax(axis=1)],
        quality=quality,
        distances=distances,
        outliers=_outliers(distances),
        ambiguous=np.argsort(margins, kind="stable")[:most],
    )


def cross_validated_probabilities(
    features: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], *, seed: int
) -> Float64[np.ndarray, "n classes"]:
    """The probability of each class, from models that were fitted without the image.

    Args:
        features: of each image.
        labels: class of each image, from 0 without gaps, at least two.
        seed: of the folds.
    """
    features = (features - features.mean(0)) / features.std(0).clamp(min=1e-6)
    folds = _folds(labels.numpy(), seed=seed)
    best, lowest = np.empty(0), np.inf
    for strength in STRENGTHS:
        probabilities = np.full((len(labels), int(labels.max()) + 1), 1e-6)
        for fold in range(FOLDS):
            inside, outside = torch.from_numpy(folds != fold), folds == fold
            model = fit_logistic_regression(features[inside], labels[inside], strength, steps=STEPS)
            predicted = model.predict_proba(features[~inside].double().numpy())
            probabilities[np.ix_(outside, model.classes_)] = predicted
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        loss = -np.log(probabilities[np.arange(len(labels)), labels.numpy()].clip(1e-12)).mean()
        if loss < lowest:
            best, lowest = probabilities, loss
    return best


def _folds(labels: Int64[np.ndarray, " n"], *, seed: int) -> Int64[np.ndarray, " n"]:
    """A fold for each image, with every class spread evenly over them."""
    shuffled = uniform(seed, np.arange(len(labels))).argsort(kind="stable")
    folds, start = np.empty(len(labels), np.int64), 0
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        folds[members] = (start + np.arange(len(members))) % FOLDS
        start += len(members)
    return folds


def _neighbour_distances(features: Float[Tensor, "n d"]) -> Float64[np.ndarray, " n"]:
    """Mean cosine distance of each image to its nearest others."""
    unit = torch.nn.functional.normalize(features.float() - features.float().mean(0), dim=1)
    count = min(NEIGHBOURS, len(unit) - 1)
    # the nearest of all is the image itself
    cosines = [(chunk @ unit.T).topk(count + 1, dim=1).values[:, 1:] for chunk in unit.split(CHUNK_SIZE)]
    return 1 - torch.cat(cosines).double().mean(1).numpy()


def _outliers(distances: Float64[np.ndarray, " n"]) -> Int64[np.ndarray, " k"]:
    low, high = np.quantile(distances, (0.25, 0.75))
    far = np.flatnonzero(distances > high + FAR * (high - low))
    return far[np.argsort(-distances[far], kind="stable")]
