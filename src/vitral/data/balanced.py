"""An order of samples with as many images of each class, as arithmetic on (seed, position)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from vitral.data.order import SAMPLING, random_bits, sample_at, sample_within

__all__ = ["BalancedOrder"]


@dataclass(frozen=True, kw_only=True, eq=False)
class BalancedOrder:
    """The images of each class. An epoch has as many positions as images, and equally many for each class but for one.

    Each class is passed through by itself, so that its images occur equally often; those of a large class over several
    epochs.
    """

    members: Int64[np.ndarray, " n"]
    """Images by class."""
    starts: Int64[np.ndarray, " classes_1"]
    """Where the images of each class start in `members`, and its end; classes without images are left out."""

    @classmethod
    def of(cls, labels: Int64[np.ndarray, " n"]) -> "BalancedOrder":
        """The order of images with these classes."""
        counts = np.bincount(labels)
        starts = np.concatenate([[0], np.cumsum(counts[counts > 0])])
        return cls(members=np.argsort(labels, kind="stable"), starts=starts)

    def sample_at(
        self, position: Int64[np.ndarray, " b"], *, seed: int
    ) -> tuple[Int64[np.ndarray, " b"], Int64[np.ndarray, " b"]]:
        """As `vitral.data.order.sample_at`: a pass and a sample for each position; no pair of them occurs twice.

        Args:
            position: positions counted from the run's first sample, across epochs.
            seed: the run's seed.

        Returns:
            Numbers of passes through the sample's class, and sample indices.
        """
        size, num_classes = len(self.members), len(self.starts) - 1
        epoch, slot = sample_at(position, size=size, seed=seed)
        turn, label = np.divmod(slot, num_classes)
        per_epoch = size // num_classes + (label < size % num_classes)
        sizes = np.diff(self.starts)[label]
        seeds = (random_bits(SAMPLING, seed, label) >> np.uint64(1)).astype(np.int64)
        number, within = sample_within(epoch * per_epoch + turn, sizes=sizes, seeds=seeds)
        return number, self.members[self.starts[label] + within]
