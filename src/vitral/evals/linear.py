"""A linear probe: logistic regression on representations that stay as they are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vitral.data.order import uniform
from vitral.evals.linear_sgd import sgd_predictions

__all__ = ["STRENGTHS", "fitted", "linear_predictions"]

STRENGTHS = (0.01, 0.1, 1.0, 10.0)
"""Inverse strengths of L2 regularisation to choose from, as scikit-learn has them (C), over standardised features."""

HELD_OUT = 0.2
"""Share of the images that the strength is chosen on."""

TRIED, FINAL = 200, 1000
"""Steps of L-BFGS at most."""

LARGE = 10**9
"""Images times features times classes from which L-BFGS takes minutes of a core."""


def linear_predictions(
    train: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    test: Float[Tensor, "m d"],
    *,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> Int64[Tensor, " m"]:
    """The class that logistic regression tells; its strength is chosen on a held-out slice, then all images count.

    Where that takes minutes, it is approached by gradient descent, a learning rate in place of the strength.

    Args:
        train: representations of the images to learn from.
        labels: their classes, at least two.
        test: representations of the images to classify.
        strengths: inverse strengths of regularisation to choose from; the first of the best is taken.
        seed: of the held-out slice.
    """
    mean, std = train.mean(0), train.std(0).clamp(min=1e-6)
    known, asked = ((features - mean) / std for features in (train, test))
    order = torch.from_numpy(uniform(seed, np.arange(len(labels))).argsort(kind="stable"))
    held, rest = order.split([few := max(1, round(HELD_OUT * len(order))), len(order) - few])
    if known.numel() * len(labels.unique()) > LARGE:
        return sgd_predictions(known, labels, asked, held_out=held, rest=rest)
    best = strengths[0]
    if len(strengths) > 1 and len(labels[rest].unique()) > 1:
        models = (fitted(known[rest], labels[rest], strength, steps=TRIED) for strength in strengths)
        scores = [np.mean(model.predict(known[held].double().numpy()) == labels[held].numpy()) for model in models]
        best = strengths[int(np.argmax(scores))]
    return torch.from_numpy(fitted(known, labels, best, steps=FINAL).predict(asked.double().numpy()))


def fitted(features: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], strength: float, *, steps: int) -> Any:
    """scikit-learn's logistic regression on features that are standardised.

    Args:
        features: to learn from.
        labels: their classes, at least two.
        strength: inverse strength of regularisation.
        steps: of L-BFGS at most.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression  # takes a second

    model = LogisticRegression(C=strength, max_iter=steps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a probe that is nearly at its optimum tells as much
        return model.fit(features.double().numpy(), labels.numpy())
