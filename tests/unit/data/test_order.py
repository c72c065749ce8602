"""Order is a permutation of every epoch, a function of (seed, epoch, position) alone, and flat."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from vitral.data.order import AUGMENTATION, DROPOUT, ORDER, random_bits, sample_at, uniform

SIZES = st.integers(1, 5000)
SEEDS = st.integers(0, 2**63 - 1)
EPOCHS = st.integers(0, 10**6)


def epoch_order(size: int, *, seed: int, epoch: int = 0) -> np.ndarray:
    """The samples of one epoch in order."""
    epochs, order = sample_at(np.arange(epoch * size, (epoch + 1) * size), size=size, seed=seed)
    assert (epochs == epoch).all()
    return order


@given(SIZES, SEEDS, EPOCHS)
def test_every_sample_comes_once_an_epoch(size, seed, epoch):
    assert np.array_equal(np.sort(epoch_order(size, seed=seed, epoch=epoch)), np.arange(size))


@given(st.integers(30, 5000), SEEDS, EPOCHS)
def test_epochs_and_seeds_differ(size, seed, epoch):
    order = epoch_order(size, seed=seed, epoch=epoch)
    assert not np.array_equal(order, epoch_order(size, seed=seed, epoch=epoch + 1))
    assert not np.array_equal(order, epoch_order(size, seed=seed ^ 1, epoch=epoch))


@given(SIZES, SEEDS, st.integers(10, 300), st.integers(0, 10**7))
def test_order_does_not_depend_on_batch_or_start(size, seed, batch_size, start):
    together = sample_at(np.arange(start, start + 200), size=size, seed=seed)
    batches = [
        sample_at(np.arange(first, min(first + batch_size, start + 200)), size=size, seed=seed)
        for first in range(start, start + 200, batch_size)
    ]
    for whole, parts in zip(together, zip(*batches, strict=True), strict=True):
        assert np.array_equal(whole, np.concatenate(parts))


@pytest.mark.parametrize("size", [2, 10, 17, 97, 257])
def test_every_sample_is_as_likely_at_every_place(size):
    """Over 20,000 epochs, chi-square of the samples that come first, in the middle, and last."""
    epochs = 20_000
    for place in (0, size // 2, size - 1):
        _, index = sample_at(np.arange(epochs) * size + place, size=size, seed=3)
        assert stats.chisquare(np.bincount(index, minlength=size)).pvalue > 1e-4


@pytest.mark.parametrize("size", [3, 4, 6, 16, 20, 40])
@pytest.mark.parametrize("apart", [1, 2])
def test_neighbours_are_as_likely_as_any_pair(size, apart):
    """Chi-square of the first sample and one soon after, over all pairs; few bits are the hardest to mix."""
    epochs = 100_000
    first = sample_at(np.arange(epochs) * size, size=size, seed=11)[1]
    second = sample_at(np.arange(epochs) * size + apart, size=size, seed=11)[1]
    pairs = np.bincount(first * size + second, minlength=size**2).reshape(size, size)
    assert (pairs.diagonal() == 0).all()
    assert stats.chisquare(pairs[~np.eye(size, dtype=bool)]).pvalue > 1e-4


def test_samples_do_not_prefer_their_own_place():
    """The number of fixed points of a random permutation has mean 1 and variance 1."""
    size, epochs = 100, 4000
    _, index = sample_at(np.arange(size * epochs), size=size, seed=5)
    fixed = (index.reshape(epochs, size) == np.arange(size)).sum(1)
    assert abs(fixed.mean() - 1) < 4 / np.sqrt(epochs)
    assert abs(fixed.var() - 1) < 0.15


def test_place_in_one_epoch_says_nothing_about_the_next():
    orders = [epoch_order(5000, seed=9, epoch=epoch) for epoch in range(2)]
    assert abs(np.corrcoef(*orders)[0, 1]) < 4 / np.sqrt(5000)


@pytest.mark.parametrize("start", [0, 10_000_000 - 500, 987_654_321_000])
def test_ten_million_samples_need_no_table(start):
    tracemalloc.start()
    epochs, index = sample_at(np.arange(start, start + 1000), size=10_000_000, seed=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20
    assert len({*zip(epochs.tolist(), index.tolist(), strict=True)}) == 1000
    assert 0 <= index.min() <= index.max() < 10_000_000


def test_bits_are_pinned():
    """A change here changes the order, augmentation and dropout of every run."""
    assert random_bits(0).tolist() == [0xE220A8397B1DCDAF]  # SplitMix64's first output from state 0
    assert random_bits(1, 2, 3).tolist() == random_bits(1, np.array([2]), 3).tolist()
    assert sample_at(np.arange(10), size=10, seed=0)[1].tolist() == PINNED_ORDER
    assert sample_at(np.arange(5, 10), size=60_000, seed=7)[1].tolist() == PINNED_SAMPLES
    assert [hex(bits) for bits in random_bits(7, np.arange(3), 5).tolist()] == PINNED_BITS
    assert uniform(1, np.arange(3)).tolist() == PINNED_NUMBERS


PINNED_ORDER = [1, 6, 3, 9, 2, 8, 7, 5, 0, 4]
PINNED_SAMPLES = [25582, 55297, 1006, 54973, 36079]
PINNED_BITS = ["0xf799626f49c37cb5", "0x4f2c0fbcfb7d858f", "0xeee2d5c70b430889"]
PINNED_NUMBERS = [0.36818951565166946, 0.5267179955718279, 0.7376992526901169]


def test_uses_share_no_numbers():
    """An order's rounds and an augmentation's names are both small integers: only the purpose distinguishes them."""
    seen = [random_bits(use, 5, 0, np.arange(6), 0) for use in (ORDER, AUGMENTATION, DROPOUT)]
    assert len(set(np.concatenate(seen).tolist())) == 18
    assert len({ORDER, AUGMENTATION, DROPOUT}) == 3


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5))
def test_bits_are_a_function_of_their_integers(words):
    assert random_bits(*words).tolist() == random_bits(*(np.array([word]) for word in words)).tolist()
    assert random_bits(*words) != random_bits(*words, 0)


@settings(max_examples=20)
@given(SEEDS)
def test_numbers_are_uniform(seed):
    numbers = uniform(seed, np.arange(2000))
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert stats.kstest(numbers, "uniform").pvalue > 1e-5
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 5 / np.sqrt(2000)
