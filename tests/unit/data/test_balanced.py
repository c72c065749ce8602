"""Balanced sampling: as many images of each class, each of them equally often, the same from any position."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitral.data.balanced import BalancedOrder
from vitral.data.order import sample_at, sample_within


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(0, 2**31), st.integers(1, 4))
def test_an_epoch_has_as_many_images_of_each_class(labels: list[int], seed: int, epochs: int) -> None:
    classes = np.array(labels)
    order, size = BalancedOrder.of(classes), len(labels)
    number, index = order.sample_at(np.arange(epochs * size), seed=seed)
    for epoch in np.split(index, epochs):
        counts = np.unique(classes[epoch], return_counts=True)[1]
        assert counts.max() - counts.min() <= 1
    for label in set(labels):
        times = np.bincount(index, minlength=size)[classes == label]
        assert times.max() - times.min() <= 1
    assert len(set(zip(number.tolist(), index.tolist(), strict=True))) == len(index), "an augmentation occurs twice"


def test_samples_do_not_depend_on_where_a_run_resumed() -> None:
    order = BalancedOrder.of(np.array([0] * 90 + [2] * 10))
    whole = order.sample_at(np.arange(400), seed=3)
    part = order.sample_at(np.arange(217, 260), seed=3)
    assert all(np.array_equal(one[217:260], other) for one, other in zip(whole, part, strict=True))
    assert not np.array_equal(whole[1], order.sample_at(np.arange(400), seed=4)[1])


@given(st.integers(1, 300), st.integers(0, 2**31))
def test_a_data_set_for_each_position_is_as_one_for_all(size: int, seed: int) -> None:
    position = np.arange(2 * size)
    sizes, seeds = np.full(2 * size, size), np.full(2 * size, seed)
    for one, other in zip(
        sample_at(position, size=size, seed=seed), sample_within(position, sizes=sizes, seeds=seeds), strict=True
    ):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("ratio", [1, 50])
def test_small_classes_are_repeated(ratio: int) -> None:
    labels = np.array([0] * (20 * ratio) + [1] * 20)
    index = BalancedOrder.of(labels).sample_at(np.arange(len(labels)), seed=0)[1]
    assert np.bincount(labels[index]).tolist() == [len(labels) // 2] * 2
