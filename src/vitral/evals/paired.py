"""Whether one classifier is better than another on the same images: the paired bootstrap."""

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
    """How much more accurate one classifier is than another on the same images; shares are fractions."""

    num_images: int
    gained: int
    """Images that only the one tells right."""
    lost: int
    """Images that only the other tells right."""
    low: float
    """Lower end of the interval of the difference."""
    high: float
    """Upper end of it."""

    @property
    def mean(self) -> float:
        """The difference of the accuracies."""
        return (self.gained - self.lost) / self.num_images


def paired_difference(
    one: Bool[Tensor, " n"], other: Bool[Tensor, " n"], *, confidence: float = 0.95, seed: int = 0
) -> Difference:
    """The difference of two accuracies with its percentile interval over 10,000 resamples of the images.

    Resampling images with replacement leaves of each resample two counts that matter, images gained and images lost.
    They are drawn from their joint distribution, a multinomial, so a million images cost what ten do.

    Args:
        one: of each image, whether the first classifier is right.
        other: the same of the second; all False, and the result is the first's accuracy with its own interval.
        confidence: share of resamples inside the interval.
        seed: of the resamples.

    Raises:
        UserError: there are no images.
    """
    from scipy.stats import binom  # here, as it takes half a second

    count = len(one)
    if not count:
        raise UserError("there are no images that both classifiers were asked about")
    gained, lost = int((one & ~other).sum()), int((other & ~one).sum())
    first, second = (uniform(seed, turn, np.arange(RESAMPLES)) for turn in range(2))
    gains = binom.ppf(first, count, gained / count)
    # the images that are left are lost with this probability each
    losses = binom.ppf(second, count - gains, lost / max(count - gained, 1))
    # ppf(0) is -1 by convention
    differences = (np.maximum(gains, 0) - np.maximum(losses, 0)) / count
    low, high = np.quantile(differences, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Difference(num_images=count, gained=gained, lost=lost, low=float(low), high=float(high))
