"""Metrics of predicted numbers: R2, mean absolute error, root mean squared error."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vitral.evals.target_predictions import TargetPredictions

__all__ = ["RegressionResult", "evaluate_numbers"]


@dataclass(frozen=True, kw_only=True)
class RegressionResult:
    """Metrics over the images that could be read; errors are in the numbers' own unit."""

    num_images: int
    r2: float
    """Fraction of the variance that is explained: 1 is perfect, 0 as good as always predicting the mean."""
    mae: float
    """Mean absolute error."""
    rmse: float
    """Root of the mean squared error."""
    baseline_mae: float
    """Mean absolute error of always predicting the median of these images."""
    unreadable: tuple[str, ...]
    """One message for each image that could not be read."""

    def metrics(self) -> Iterator[tuple[str, float]]:
        """The scalar metrics by name."""
        yield from (("r2", self.r2), ("mae", self.mae), ("rmse", self.rmse))

    def headline(self) -> str:
        """The main metrics in one line."""
        return f"R2 {self.r2:.4f}  MAE {self.mae:.4g}  RMSE {self.rmse:.4g}"


def evaluate_numbers(predictions: TargetPredictions) -> RegressionResult:
    """The metrics of predicted numbers; R2 of images that all have the same number is 0."""
    truth, predicted = predictions.truth.double().numpy()[:, 0], predictions.outputs.double().numpy()[:, 0]
    errors = predicted - truth
    variance = float(np.square(truth - truth.mean()).mean())
    return RegressionResult(
        num_images=len(truth),
        r2=1 - float(np.square(errors).mean()) / variance if variance else 0.0,
        mae=float(np.abs(errors).mean()),
        rmse=float(np.sqrt(np.square(errors).mean())),
        baseline_mae=float(np.abs(truth - np.median(truth)).mean()),
        unreadable=predictions.unreadable,
    )
