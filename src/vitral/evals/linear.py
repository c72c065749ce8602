"""A linear probe: logistic regression on representations that stay as they are."""

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vitral.data.order import uniform

__all__ = ["STRENGTHS", "linear_predictions"]

STRENGTHS = (0.01, 0.1, 1.0, 10.0)
"""Inverse strengths of L2 regularisation to choose from, as scikit-learn has them (C), over standardised features."""

HELD_OUT = 0.2
"""Share of the images that the strength is chosen on."""

TRIED, FINAL = 200, 1000
"""Steps of L-BFGS at most."""


def linear_predictions(
    train: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    test: Float[Tensor, "m d"],
    *,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> Int64[Tensor, " m"]:
    """The class that logistic regression tells; its strength is chosen on a held-out slice, then all images count.

    Args:
        train: representations of the images to learn from.
        labels: their classes, at least two.
        test: representations of the images to classify.
        strengths: inverse strengths of regularisation to choose from; the first of the best is taken.
        seed: of the held-out slice.
    """
    mean, std = train.mean(0), train.std(0).clamp(min=1e-6)
    known, asked = (((features - mean) / std).double().numpy() for features in (train, test))
    truth = labels.numpy()
    best = strengths[0]
    if len(strengths) > 1:
        order = uniform(seed, np.arange(len(truth))).argsort(kind="stable")
        held, rest = np.split(order, [max(1, round(HELD_OUT * len(order)))])
        if len(np.unique(truth[rest])) > 1:
            told = [_fitted(known[rest], truth[rest], strength, TRIED)(known[held]) for strength in strengths]
            scores = [np.mean(classes == truth[held]) for classes in told]
            best = strengths[int(np.argmax(scores))]
    return torch.from_numpy(_fitted(known, truth, best, FINAL)(asked))


def _fitted(
    features: np.ndarray, labels: np.ndarray, strength: float, steps: int
) -> Callable[[np.ndarray], np.ndarray]:
    """What tells the class of representations."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression  # takes a second

    model = LogisticRegression(C=strength, max_iter=steps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a probe that is nearly at its optimum tells as much
        model.fit(features, labels)
    return cast(Callable[[np.ndarray], np.ndarray], model.predict)
