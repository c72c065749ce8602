"""Which sample comes when: arithmetic on (seed, epoch, position), with no state to save.

Position `i` of epoch `e` is a sample by a keyed permutation of the data set: a Feistel network on the smallest
even number of bits that holds every index, walked until it lands inside the data set (format-preserving encryption
by cycle walking). One lookup costs the same at any position, for ten samples or ten million.
"""

import numpy as np
from jaxtyping import Float64, Int64, UInt64

__all__ = [
    "AUGMENTATION",
    "DRAWING",
    "DROPOUT",
    "MIXING",
    "OBJECTIVE",
    "ORDER",
    "random_bits",
    "repeated_at",
    "sample_at",
    "uniform",
]

ORDER, AUGMENTATION, DROPOUT, MIXING, OBJECTIVE, DRAWING = range(6)
"""The first integer of every draw says what it is for, so that no two uses share their random numbers."""

ROUNDS = 6
"""Fewest rounds of the network."""

MIXED_BITS = 36
"""Fewest bits that all rounds draw together: on few bits, six rounds leave some pairs of samples too close."""


def random_bits(*words: Int64[np.ndarray, "*#b"] | int) -> UInt64[np.ndarray, "*b"]:
    """64 well-mixed bits from integers, the same on every machine (the finaliser of SplitMix64, word by word)."""
    with np.errstate(over="ignore"):
        state = np.zeros(1, np.uint64)
        for word in words:
            state = state + np.asarray(word, np.int64).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return state


def uniform(*words: Int64[np.ndarray, "*#b"] | int) -> Float64[np.ndarray, "*b"]:
    """Numbers in [0, 1), each a function of its integers alone."""
    return (random_bits(*words) >> np.uint64(11)) * 2.0**-53


def sample_at(
    position: Int64[np.ndarray, " b"], *, size: int, seed: int
) -> tuple[Int64[np.ndarray, " b"], Int64[np.ndarray, " b"]]:
    """The epoch and the sample at each position of an endless run through the data.

    Args:
        position: positions counted from the run's first sample, across epochs.
        size: number of samples in the data set.
        seed: the run's seed.

    Returns:
        Epochs, and sample indices below `size`; within one epoch every sample comes exactly once.
    """
    epoch, index = np.divmod(position, size)
    half = max(1, (size - 1).bit_length() + 1 >> 1)
    index = _permute(index, epoch, half, seed)
    while (outside := index >= size).any():
        index[outside] = _permute(index[outside], epoch[outside], half, seed)
    return epoch, index


def repeated_at(
    position: Int64[np.ndarray, " b"], *, batch_size: int, repeats: int, size: int, seed: int
) -> tuple[Int64[np.ndarray, " b"], Int64[np.ndarray, " b"]]:
    """As `sample_at`, but each image comes up to `repeats` times in its batch, each time as of another epoch.

    The copies of an image lie apart, so that neighbours are different images; an epoch has as many batches as before,
    of fewer images (repeated augmentation, Hoffer et al. 2020).
    """
    step, row = np.divmod(position, batch_size)
    images = -(-batch_size // repeats)
    copy, place = np.divmod(row, images)
    epoch, index = sample_at(step * images + place, size=size, seed=seed)
    return epoch * repeats + copy, index


def _permute(
    index: Int64[np.ndarray, " b"], epoch: Int64[np.ndarray, " b"], half: int, seed: int
) -> Int64[np.ndarray, " b"]:
    """One pass of the Feistel network over `2 * half` bits: a bijection for every seed and epoch."""
    mask = (1 << half) - 1
    left, right = index >> half, index & mask
    for turn in range(max(ROUNDS, -(-MIXED_BITS // half))):
        left, right = right, left ^ (random_bits(ORDER, seed, epoch, turn, right).astype(np.int64) & mask)
    return left << half | right
