"""The paired bootstrap beside resampling written out."""

import numpy as np
import pytest
import torch

from vitral.evals.paired import paired_difference


def answers(count: int, share: float, seed: int) -> torch.Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed)) < share


def test_it_is_the_bootstrap_over_images() -> None:
    one, other = answers(359, 0.9, 0), answers(359, 0.8, 1)
    found = paired_difference(one, other)
    each = one.numpy().astype(float) - other.numpy()
    resamples = each[np.random.default_rng(0).integers(0, 359, (20_000, 359))].mean(1)
    assert found.mean == pytest.approx(each.mean())
    assert [found.low, found.high] == pytest.approx(np.quantile(resamples, [0.025, 0.975]).tolist(), abs=1.5 / 359)


def test_images_on_which_both_agree_add_nothing_but_their_number() -> None:
    one, other = torch.tensor([True, True, False, True]), torch.tensor([True, False, True, False])
    found = paired_difference(one, other)
    assert (found.num_images, found.gained, found.lost, found.mean) == (4, 2, 1, 0.25)
    again = paired_difference(other, one)
    assert (again.gained, again.lost, again.mean) == (1, 2, -0.25)
    assert paired_difference(one, one).low == paired_difference(one, one).high == 0.0


def test_pairs_tell_more_than_two_accuracies() -> None:
    # right on the same hard images, but for twenty that only the one gets
    other = answers(1000, 0.8, 0)
    one = other.clone()
    one[(~other).nonzero()[:20, 0]] = True
    found = paired_difference(one, other)
    assert found.low > 0.01
    assert found.high < 0.03
    alone = paired_difference(one, torch.zeros_like(one))
    assert alone.mean == pytest.approx(one.float().mean().item())
    assert alone.high - alone.low > found.high - found.low


def test_at_the_ends_nothing_is_left_to_draw() -> None:
    every, none = torch.ones(7, dtype=torch.bool), torch.zeros(7, dtype=torch.bool)
    assert (paired_difference(every, none).low, paired_difference(every, none).high) == (1.0, 1.0)
    assert (paired_difference(none, every).low, paired_difference(none, every).high) == (-1.0, -1.0)


def test_no_images() -> None:
    nothing = torch.zeros(0, dtype=torch.bool)
    with pytest.raises(ValueError, match="no images"):
        paired_difference(nothing, nothing)
