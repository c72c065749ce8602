"""The parts of a run's report about images with several labels, or a number."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from vitral.card import ModelCard
from vitral.evals.multi_label import evaluate_labels
from vitral.evals.target_predictions import TargetPredictions

__all__ = ["SCATTER", "answers", "label_rows", "save_scatter", "worst_images"]

SCATTER = "scatter.png"
"""Plot in a run's folder of predicted over true numbers."""


def label_rows(found: TargetPredictions, card: ModelCard | None) -> list[tuple[str, list[str], str, int]]:
    """For each label its name, its average precision, F1, precision and recall, its threshold and its images; the worst
    average precision first. Empty if the model predicts a number.
    """
    if card is None or card.target != "multi-label":
        return []
    result = evaluate_labels(found, card.thresholds)
    columns = (result.average_precision, result.label_f1, result.precision, result.recall)
    order = np.argsort(np.nan_to_num(result.average_precision, nan=2.0), kind="stable")
    return [
        (
            card.classes[row],
            [f"{column[row]:.1%}" if result.counts[row] else "-" for column in columns],
            f"{result.thresholds[row]:.2f}",
            int(result.counts[row]),
        )
        for row in order.tolist()
    ]


def save_scatter(folder: Path, found: TargetPredictions, card: ModelCard) -> None:
    """Draws predicted over true numbers into a run's folder."""
    from vitral.evals.scatter import draw_scatter  # imports Matplotlib, which few runs need

    draw_scatter(found, card.classes[0], folder / SCATTER)


def worst_images(found: TargetPredictions, card: ModelCard, *, count: int) -> tuple[str, list[int]]:
    """A title, and the rows of the images with the largest loss or error, if their answer is wrong; the worst first."""
    if card.target == "regression":
        losses = (found.outputs - found.truth).abs()[:, 0]
        return "Largest errors", losses.argsort(descending=True, stable=True)[:count].tolist()
    losses = F.binary_cross_entropy_with_logits(found.outputs, found.truth, reduction="none").sum(1)
    wrong = (labels_of(found, card) != (found.truth > 0)).any(1)
    order = losses.argsort(descending=True, stable=True)
    return "Worst mistakes", order[wrong[order]][:count].tolist()


def answers(found: TargetPredictions, card: ModelCard, row: int) -> dict[str, Any]:
    """The true and the predicted labels or number of an image in words, and whether they are equal: None of numbers."""
    if card.target == "regression":
        truth, predicted = (f"{float(column[row, 0]):.4g}" for column in (found.truth, found.outputs))
        return {"truth": truth, "predicted": predicted, "correct": None}
    truth, predicted = found.truth[row] > 0, labels_of(found, card)[row]
    words = (
        ", ".join(name for name, has in zip(card.classes, labels.tolist(), strict=True) if has) or "no label"
        for labels in (truth, predicted)
    )
    return dict(zip(("truth", "predicted"), words, strict=True)) | {"correct": bool((truth == predicted).all())}


def labels_of(found: TargetPredictions, card: ModelCard) -> Bool[Tensor, "n k"]:
    """Whether each label of each image is predicted."""
    return found.outputs.double().sigmoid() >= torch.tensor(card.label_thresholds, dtype=torch.float64)
