"""Whether a classifier is right as often as it says."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

__all__ = ["Calibration", "calibration"]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Confidence and accuracy in equal bins of confidence; NaN where a bin has no images."""

    counts: Int64[Tensor, " bins"]
    """Images."""
    confidence: Float64[Tensor, " bins"]
    """Mean probability of the predicted class."""
    accuracy: Float64[Tensor, " bins"]
    """Share of right predictions."""

    @property
    def error(self) -> float:
        """Expected calibration error (Guo et al. 2017, equation 3): the mean distance of the two, by images."""
        gaps = (self.accuracy - self.confidence).abs().nan_to_num()
        return ((gaps * self.counts).sum() / self.counts.sum()).item()


def calibration(confidence: Float[Tensor, " n"], right: Tensor, *, bins: int = 15) -> Calibration:
    """Sorts predictions into bins, each of which holds confidences above its lower edge, up to its upper edge.

    Args:
        confidence: probability of the predicted class.
        right: whether each prediction was right.
        bins: number of bins over 0..1.
    """
    index = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)
    counts = index.bincount(minlength=bins)
    sums = torch.zeros(2, bins, dtype=torch.float64)
    sums.index_add_(1, index, torch.stack([confidence.double(), right.double()]))
    confidences, accuracies = sums / counts
    return Calibration(counts=counts, confidence=confidences, accuracy=accuracies)
