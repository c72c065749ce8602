"""The paired bootstrap against explicit resampling."""

import numpy as np
import pytest
import torch

from vitral.evals.paired import paired_difference


def random_hits(count: int, accuracy: float, seed: int) -> torch.Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed)) < accuracy


def test_interval_equals_that_of_explicit_resampling() -> None:
    one, other = random_hits(359, 0.9, 0), random_hits(359, 0.8, 1)
    result = paired_difference(one, other)
    each = one.numpy().astype(float) - other.numpy()
    resamples = each[np.random.default_rng(0).integers(0, 359, (20_000, 359))].mean(1)
    assert result.mean == pytest.approx(each.mean())
    assert [result.low, result.high] == pytest.approx(np.quantile(resamples, [0.025, 0.975]).tolist(), abs=1.5 / 359)


def test_images_with_equal_predictions_only_add_to_their_number() -> None:
    one, other = torch.tensor([True, True, False, True]), torch.tensor([True, False, True, False])
    result = paired_difference(one, other)
    assert (result.num_images, result.gained, result.lost, result.mean) == (4, 2, 1, 0.25)
    again = paired_difference(other, one)
    assert (again.gained, again.lost, again.mean) == (1, 2, -0.25)
    assert paired_difference(one, one).low == paired_difference(one, one).high == 0.0


def test_the_paired_interval_is_narrower_than_that_of_one_accuracy() -> None:
    # equal predictions but for twenty images that only the first predicts correctly
    other = random_hits(1000, 0.8, 0)
    one = other.clone()
    one[(~other).nonzero()[:20, 0]] = True
    result = paired_difference(one, other)
    assert result.low > 0.01
    assert result.high < 0.03
    alone = paired_difference(one, torch.zeros_like(one))
    assert alone.mean == pytest.approx(one.float().mean().item())
    assert alone.high - alone.low > result.high - result.low


def test_at_zero_and_full_accuracy_the_interval_is_a_point() -> None:
    every, none = torch.ones(7, dtype=torch.bool), torch.zeros(7, dtype=torch.bool)
    assert (paired_difference(every, none).low, paired_difference(every, none).high) == (1.0, 1.0)
    assert (paired_difference(none, every).low, paired_difference(none, every).high) == (-1.0, -1.0)


def test_no_images() -> None:
    nothing = torch.zeros(0, dtype=torch.bool)
    with pytest.raises(ValueError, match="no images"):
        paired_difference(nothing, nothing)
