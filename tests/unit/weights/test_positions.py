"""Position embeddings resampled as `scipy.ndimage.zoom` of order 1 does."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import zoom

from vitral.weights.positions import resample_positions

GRIDS = st.tuples(st.integers(1, 12), st.integers(1, 12))


def table(grid: tuple[int, int], *, prefix: int, width: int = 3) -> torch.Tensor:
    return torch.randn(1, prefix + grid[0] * grid[1], width, generator=torch.Generator().manual_seed(grid[0]))


@given(GRIDS, GRIDS, st.integers(0, 1))
def test_equals_scipy(source, target, prefix):
    positions = table(source, prefix=prefix)
    found = resample_positions(positions, source=source, target=target)
    grid = positions[0, prefix:].double().reshape(*source, -1).numpy()
    factors = (target[0] / source[0], target[1] / source[1], 1)
    expected = zoom(grid, factors, order=1, grid_mode=False).reshape(target[0] * target[1], -1)
    assert torch.equal(found[:, :prefix], positions[:, :prefix])
    np.testing.assert_allclose(found[0, prefix:], expected, atol=1e-5)


@given(GRIDS, st.integers(0, 1))
def test_the_same_grid_changes_nothing(grid, prefix):
    positions = table(grid, prefix=prefix)
    assert torch.equal(resample_positions(positions, source=grid, target=grid), positions)


@given(st.tuples(st.integers(2, 12), st.integers(2, 12)), st.tuples(st.integers(2, 12), st.integers(2, 12)))
def test_corners_stay(source, target):
    positions = table(source, prefix=1)
    found = resample_positions(positions, source=source, target=target)
    before, after = positions[0, 1:].reshape(*source, -1), found[0, 1:].reshape(*target, -1)
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        torch.testing.assert_close(after[corner], before[corner])


def test_halfway_by_hand():
    positions = torch.tensor([9.0, 0.0, 1.0, 2.0, 3.0]).reshape(1, 5, 1)
    found = resample_positions(positions, source=(2, 2), target=(3, 3))
    assert found.flatten().tolist() == [9, 0, 0.5, 1, 1, 1.5, 2, 2, 2.5, 3]


@pytest.mark.parametrize("rows", [3, 6, 8])
def test_a_table_of_another_grid(rows):
    with pytest.raises(ValueError, match=f"{rows} positions are not a 2x2 grid with at most one class token"):
        resample_positions(torch.zeros(1, rows, 2), source=(2, 2), target=(3, 3))
