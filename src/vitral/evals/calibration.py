"""Calibration of a classifier: accuracy beside confidence, and the expected calibration error."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

__all__ = ["Calibration", "calibration"]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Confidence and accuracy in equal bins of confidence; NaN in a bin without images."""

    counts: Int64[Tensor, " bins"]
    """Number of images."""
    confidence: Float64[Tensor, " bins"]
    """Mean probability of the predicted class."""
    accuracy: Float64[Tensor, " bins"]
    """Fraction of correct predictions."""

    @property
    def error(self) -> float:
        """Expected calibration error: mean of |accuracy - confidence| over images (Guo et al. 2017, equation 3)."""
        gaps = (self.accuracy - self.confidence).abs().nan_to_num()
        return ((gaps * self.counts).sum() / self.counts.sum()).item()


def calibration(confidence: Float[Tensor, " n"], correct: Tensor, *, num_bins: int = 15) -> Calibration:
    """Sorts predictions into bins (lower, upper]; a bin includes its upper edge.

    Args:
        confidence: probability of the predicted class.
        correct: whether each prediction is correct.
        num_bins: number of bins over 0..1.
    """
    index = (confidence * num_bins).ceil().long().sub(1).clamp(0, num_bins - 1)
    counts = index.bincount(minlength=num_bins)
    sums = torch.zeros(2, num_bins, dtype=torch.float64)
    sums.index_add_(1, index, torch.stack([confidence.double(), correct.double()]))
    confidences, accuracies = sums / counts
    return Calibration(counts=counts, confidence=confidences, accuracy=accuracies)
