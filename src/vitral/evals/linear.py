"""Linear probe: logistic regression on frozen features."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vitral.data.order import uniform
from vitral.evals.linear_sgd import sgd_predictions

__all__ = ["FINAL_STEPS", "STRENGTHS", "fit_logistic_regression", "linear_predictions"]

STRENGTHS = (0.01, 0.1, 1.0, 10.0)
"""Candidate inverse strengths of L2 regularisation (scikit-learn's C), on standardised features."""

VAL_FRACTION = 0.2
"""Fraction of the images held out to select the strength."""

SEARCH_STEPS, FINAL_STEPS = 200, 1000
"""Maximum number of L-BFGS steps."""

MAX_LBFGS_SIZE = 10**9
"""Images times features times classes above which L-BFGS takes minutes on one core, and SGD is used instead."""


def linear_predictions(
    train: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    test: Float[Tensor, "m d"],
    *,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> Int64[Tensor, " m"]:
    """Classes predicted by logistic regression; its strength is selected on a held-out subset, then all images are fit.

    Large sets are fit by SGD instead, which selects a learning rate in place of the strength.

    Args:
        train: features of the training images.
        labels: their classes, at least two.
        test: features of the test images.
        strengths: candidate inverse strengths of regularisation; the first of the best is used.
        seed: of the held-out subset.
    """
    mean, std = train.mean(0), train.std(0).clamp(min=1e-6)
    train, test = ((features - mean) / std for features in (train, test))
    order = torch.from_numpy(uniform(seed, np.arange(len(labels))).argsort(kind="stable"))
    num_val = max(1, round(VAL_FRACTION * len(order)))
    val, rest = order.split([num_val, len(order) - num_val])
    if train.numel() * len(labels.unique()) > MAX_LBFGS_SIZE:
        return sgd_predictions(train, labels, test, val=val, rest=rest)
    best = strengths[0]
    if len(strengths) > 1 and len(labels[rest].unique()) > 1:
        models = (
            fit_logistic_regression(train[rest], labels[rest], strength, steps=SEARCH_STEPS) for strength in strengths
        )
        scores = [np.mean(model.predict(train[val].double().numpy()) == labels[val].numpy()) for model in models]
        best = strengths[int(np.argmax(scores))]
    final = fit_logistic_regression(train, labels, best, steps=FINAL_STEPS)
    return torch.from_numpy(final.predict(test.double().numpy()))


def fit_logistic_regression(
    features: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], strength: float, *, steps: int
) -> Any:
    """scikit-learn's logistic regression.

    Args:
        features: standardised.
        labels: their classes, at least two.
        strength: inverse strength of regularisation.
        steps: maximum number of L-BFGS steps.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression  # takes a second to import

    model = LogisticRegression(C=strength, max_iter=steps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near the optimum the accuracy is the same
        return model.fit(features.double().numpy(), labels.numpy())
