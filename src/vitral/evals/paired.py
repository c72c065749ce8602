"""Paired bootstrap: the confidence interval of the difference between two classifiers on the same images."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from torch import Tensor

from vitral.data.order import uniform
from vitral.errors import UserError

__all__ = ["Difference", "paired_difference"]

RESAMPLES = 10_000


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Accuracy of one classifier minus that of another on the same images; accuracies are fractions."""

    num_images: int
    gained: int
    """Images that only the first classifier predicts correctly."""
    lost: int
    """Images that only the second classifier predicts correctly."""
    low: float
    """Lower end of the confidence interval."""
    high: float
    """Upper end of the confidence interval."""

    @property
    def mean(self) -> float:
        """The difference of the accuracies."""
        return (self.gained - self.lost) / self.num_images


def paired_difference(
    one: Bool[Tensor, " n"], other: Bool[Tensor, " n"], *, confidence: float = 0.95, seed: int = 0
) -> Difference:
    """The difference of two accuracies with its percentile interval over 10,000 bootstrap resamples of the images.

    A resample matters only by its number of images gained and lost. Both numbers are drawn from their joint
    distribution, a multinomial, so that a million images cost as much as ten.

    Args:
        one: whether the first classifier is correct on each image.
        other: the same for the second; all False gives the accuracy of the first with its interval.
        confidence: fraction of resamples inside the interval.
        seed: of the resamples.

    Raises:
        UserError: there are no images.
    """
    from scipy.stats import binom  # takes half a second to import

    count = len(one)
    if not count:
        raise UserError("there are no images that both classifiers were evaluated on")
    gained, lost = int((one & ~other).sum()), int((other & ~one).sum())
    first, second = (uniform(seed, turn, np.arange(RESAMPLES)) for turn in range(2))
    gains = binom.ppf(first, count, gained / count)
    # probability that an image which is not gained is lost
    losses = binom.ppf(second, count - gains, lost / max(count - gained, 1))
    # ppf(0) is -1 by convention
    differences = (np.maximum(gains, 0) - np.maximum(losses, 0)) / count
    low, high = np.quantile(differences, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Difference(num_images=count, gained=gained, lost=lost, low=float(low), high=float(high))
