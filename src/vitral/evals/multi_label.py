"""Metrics of images with several labels: mean average precision and F1, and the thresholds of labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64

from vitral.card import DEFAULT_THRESHOLD
from vitral.evals.target_predictions import TargetPredictions

__all__ = ["MultiLabelResult", "best_thresholds", "evaluate_labels"]

UNDEFINED: Any = 0
"""Precision where nothing is predicted; scikit-learn's types know its words only."""


@dataclass(frozen=True, kw_only=True)
class MultiLabelResult:
    """Metrics over the images that could be read, as fractions; equal to scikit-learn's.

    Means over labels are of those that an image has: others have no precision.
    """

    num_images: int
    map: float
    """Mean over labels of the average precision (macro)."""
    map_micro: float
    """Average precision of all pairs of an image and a label."""
    f1: float
    """Mean over labels of F1, the harmonic mean of precision and recall, at each label's threshold (macro)."""
    f1_micro: float
    """F1 of all pairs of an image and a label."""
    exact: float
    """Fraction of images whose labels are all right."""
    loss: float
    """Binary cross-entropy in nats, summed over labels and averaged over images."""
    average_precision: Float[np.ndarray, " k"]
    """Of each label; NaN if no image has it."""
    label_f1: Float[np.ndarray, " k"]
    precision: Float[np.ndarray, " k"]
    recall: Float[np.ndarray, " k"]
    """These of each label; NaN if no image has it."""
    counts: Int64[np.ndarray, " k"]
    """Images with each label."""
    thresholds: tuple[float, ...]
    """Probability of each label from which an image has it."""
    unreadable: tuple[str, ...]
    """One message for each image that could not be read."""

    def metrics(self) -> Iterator[tuple[str, float]]:
        """The scalar metrics by name."""
        for name in ("map", "map_micro", "f1", "f1_micro", "exact", "loss"):
            yield name, getattr(self, name)

    def headline(self) -> str:
        """The main metrics in one line."""
        return f"mAP {self.map:.2%}  F1 {self.f1:.2%}  loss {self.loss:.4f}"


def evaluate_labels(predictions: TargetPredictions, thresholds: Sequence[float]) -> MultiLabelResult:
    """The metrics of predictions at given thresholds.

    Args:
        predictions: with logits as outputs.
        thresholds: one for each label; empty: `DEFAULT_THRESHOLD` for all.
    """
    from sklearn import metrics  # here, as scikit-learn takes a second to import

    truth, probabilities = predictions.truth.numpy() > 0, predictions.outputs.double().sigmoid().numpy()
    limits = tuple(thresholds) or (DEFAULT_THRESHOLD,) * truth.shape[1]
    predicted = probabilities >= np.array(limits)
    present = truth.any(0)
    losses = F.binary_cross_entropy_with_logits(predictions.outputs, predictions.truth, reduction="none")
    scores = metrics.precision_recall_fscore_support(truth, predicted, average=None, zero_division=UNDEFINED)
    precision, recall, f1 = (np.where(present, score, np.nan) for score in scores[:3])
    average = np.array([_average_precision(truth[:, k], probabilities[:, k]) for k in range(truth.shape[1])])
    return MultiLabelResult(
        num_images=len(truth),
        map=float(average[present].mean()) if present.any() else 0.0,
        map_micro=_average_precision(truth.ravel(), probabilities.ravel()) if present.any() else 0.0,
        f1=float(f1[present].mean()) if present.any() else 0.0,
        f1_micro=float(metrics.f1_score(truth, predicted, average="micro", zero_division=UNDEFINED)),
        exact=float((truth == predicted).all(1).mean()),
        loss=losses.sum(1).mean().item(),
        average_precision=average,
        label_f1=f1,
        precision=precision,
        recall=recall,
        counts=truth.sum(0),
        thresholds=limits,
        unreadable=predictions.unreadable,
    )


def best_thresholds(predictions: TargetPredictions) -> tuple[float, ...]:
    """For each label the threshold with the highest F1, halfway to the next lower probability of an image.

    A label that no image has, or every one, gets `DEFAULT_THRESHOLD`.

    Args:
        predictions: on validation images, with logits as outputs.
    """
    truth, probabilities = predictions.truth.numpy() > 0, predictions.outputs.double().sigmoid().numpy()
    return tuple(_best_threshold(truth[:, k], probabilities[:, k]) for k in range(truth.shape[1]))


def _average_precision(truth: Bool[np.ndarray, " n"], probabilities: Float[np.ndarray, " n"]) -> float:
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(truth, probabilities)) if truth.any() else np.nan


def _best_threshold(truth: Bool[np.ndarray, " n"], probabilities: Float[np.ndarray, " n"]) -> float:
    from sklearn.metrics import precision_recall_curve

    if not truth.any() or truth.all():
        return DEFAULT_THRESHOLD
    precision, recall, cuts = precision_recall_curve(truth, probabilities)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = float(cuts[f1[:-1].argmax()])
    lower = probabilities[probabilities < best]
    return (best + float(lower.max(initial=0.0))) / 2
