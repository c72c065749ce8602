"""Positions on another grid: as Google's code has them, with corners and the class token kept."""

import numpy as np
import pytest
import torch
from scipy.ndimage import zoom

from vitral.weights.positions import resample_positions


@pytest.mark.parametrize("prefix", [0, 1])
@pytest.mark.parametrize(("source", "target"), [((4, 4), (7, 7)), ((7, 7), (3, 3)), ((2, 5), (6, 4)), ((3, 3), (3, 8))])
def test_equals_a_zoom_of_order_one(source: tuple[int, int], target: tuple[int, int], prefix: int) -> None:
    table = torch.randn(1, prefix + source[0] * source[1], 6, dtype=torch.float64)
    grid = table[0, prefix:].reshape(*source, 6).numpy()
    factors = target[0] / source[0], target[1] / source[1], 1
    expected = zoom(grid, factors, order=1).reshape(-1, 6)
    found = resample_positions(table, source=source, target=target)
    assert torch.equal(found[:, :prefix], table[:, :prefix])
    np.testing.assert_allclose(found[0, prefix:].numpy(), expected, atol=1e-12)


def test_between_two_corners_lies_their_mean() -> None:
    table = torch.tensor([[[9.0], [0.0], [2.0]]])
    assert resample_positions(table, source=(1, 2), target=(1, 3)).flatten().tolist() == [9, 0, 1, 2]


def test_the_same_grid_changes_nothing() -> None:
    table = torch.randn(1, 5, 3)
    assert torch.equal(resample_positions(table, source=(2, 2), target=(2, 2)), table)


def test_a_table_of_another_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="7 positions are not a 2x2 grid with at most one class token"):
        resample_positions(torch.zeros(1, 7, 3), source=(2, 2), target=(3, 3))
