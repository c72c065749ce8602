"""The order of samples as arithmetic on (seed, epoch, position), without state to save.

A keyed permutation maps position `i` of epoch `e` to a sample: a Feistel network on the smallest even number of bits
that holds every index, applied until the result is inside the data set (format-preserving encryption by cycle walking).
A lookup costs the same at any position, for ten samples or ten million.
"""

import numpy as np
from jaxtyping import Float64, Int64, UInt64

__all__ = [
    "AUGMENTATION",
    "DRAWING",
    "DROPOUT",
    "LENGTH",
    "MIXING",
    "OBJECTIVE",
    "ORDER",
    "SAMPLING",
    "STATISTICS",
    "random_bits",
    "repeated_at",
    "sample_at",
    "sample_within",
    "uniform",
]

ORDER, AUGMENTATION, DROPOUT, MIXING, OBJECTIVE, DRAWING, STATISTICS, SAMPLING, LENGTH = range(9)
"""The first integer of every random number, one for each purpose, so that no two purposes share random numbers."""

ROUNDS = 6
"""Minimum number of rounds of the network."""

MIXED_BITS = 36
"""Minimum number of random bits over all rounds: with few bits, six rounds leave some pairs of samples too close."""


def random_bits(*words: Int64[np.ndarray, "*#b"] | int) -> UInt64[np.ndarray, "*b"]:
    """A 64-bit hash of integers, the same on every machine (the finaliser of SplitMix64, integer by integer)."""
    with np.errstate(over="ignore"):
        state = np.zeros(1, np.uint64)
        for word in words:
            state = state + np.asarray(word, np.int64).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return state


def uniform(*words: Int64[np.ndarray, "*#b"] | int) -> Float64[np.ndarray, "*b"]:
    """Uniform numbers in [0, 1), each a function of its integers only."""
    return (random_bits(*words) >> np.uint64(11)) * 2.0**-53


def sample_at(
    position: Int64[np.ndarray, " b"], *, size: int, seed: int
) -> tuple[Int64[np.ndarray, " b"], Int64[np.ndarray, " b"]]:
    """The epoch and the sample at each position of an endless pass through the data.

    Args:
        position: positions counted from the run's first sample, across epochs.
        size: number of samples in the data set.
        seed: the run's seed.

    Returns:
        Epochs, and sample indices below `size`; each epoch contains every sample exactly once.
    """
    epoch, index = np.divmod(position, size)
    half = max(1, (size - 1).bit_length() + 1 >> 1)
    index = _permute(index, epoch, half, seed)
    while (outside := index >= size).any():
        index[outside] = _permute(index[outside], epoch[outside], half, seed)
    return epoch, index


def sample_within(
    position: Int64[np.ndarray, " b"], *, sizes: Int64[np.ndarray, " b"], seeds: Int64[np.ndarray, " b"]
) -> tuple[Int64[np.ndarray, " b"], Int64[np.ndarray, " b"]]:
    """As `sample_at`, with a data set for each position.

    Args:
        position: positions in endless passes through each data set.
        sizes: number of samples in the data set of each position.
        seeds: seed of the order of that data set.

    Returns:
        Numbers of passes, and sample indices below the size.
    """
    number, index = np.divmod(position, sizes)
    bits = np.frexp((sizes - 1).astype(np.float64))[1]
    halves = np.maximum(1, bits + 1 >> 1)
    for half in np.unique(halves).tolist():
        rows = np.flatnonzero(halves == half)
        while len(rows):
            index[rows] = _permute(index[rows], number[rows], half, seeds[rows])
            rows = rows[index[rows] >= sizes[rows]]
    return number, index


def repeated_at(
    position: Int64[np.ndarray, " b"], *, batch_size: int, repeats: int, size: int, seed: int
) -> tuple[Int64[np.ndarray, " b"], Int64[np.ndarray, " b"]]:
    """Like `sample_at`, but each image is up to `repeats` times in its batch, each time with another epoch number.

    Copies of an image are not adjacent, so neighbours are different images. An epoch has the same number of batches, of
    fewer images (repeated augmentation, Hoffer et al. 2020).
    """
    step, row = np.divmod(position, batch_size)
    images = -(-batch_size // repeats)
    copy, place = np.divmod(row, images)
    epoch, index = sample_at(step * images + place, size=size, seed=seed)
    return epoch * repeats + copy, index


def _permute(
    index: Int64[np.ndarray, " b"],
    epoch: Int64[np.ndarray, " b"],
    half: int,
    seed: int | Int64[np.ndarray, " b"],
) -> Int64[np.ndarray, " b"]:
    """One pass of the Feistel network over `2 * half` bits: a bijection for each seed and epoch."""
    mask = (1 << half) - 1
    left, right = index >> half, index & mask
    for turn in range(max(ROUNDS, -(-MIXED_BITS // half))):
        left, right = right, left ^ (random_bits(ORDER, seed, epoch, turn, right).astype(np.int64) & mask)
    return left << half | right
