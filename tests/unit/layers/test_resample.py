"""Positions on a grid are resampled as the owner of each method does."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import zoom

from vitral.layers.resample import RESAMPLERS, resample_grid, resample_line

GRIDS = st.tuples(st.integers(1, 12), st.integers(1, 12))


def grid_of(size: tuple[int, int], *, width: int = 3) -> torch.Tensor:
    return torch.randn(2, *size, width, generator=torch.Generator().manual_seed(size[0]))


@given(GRIDS, GRIDS)
def test_google_is_scipys_zoom(source: tuple[int, int], target: tuple[int, int]) -> None:
    grid = grid_of(source)
    factors = (1, target[0] / source[0], target[1] / source[1], 1)
    expected = zoom(grid.double().numpy(), factors, order=1, grid_mode=False)
    np.testing.assert_allclose(resample_grid(grid, target, method="google"), expected, atol=1e-5)


@given(GRIDS, st.sampled_from(sorted(RESAMPLERS)))
def test_the_same_grid_is_returned(size: tuple[int, int], method: str) -> None:
    grid = grid_of(size)
    assert resample_grid(grid, size, method=method) is grid


@pytest.mark.parametrize("method", ["google", "torchvision"])
@given(source=st.tuples(*[st.integers(2, 12)] * 2), target=st.tuples(*[st.integers(2, 12)] * 2))
def test_corners_stay_where_they_are_kept(method: str, source: tuple[int, int], target: tuple[int, int]) -> None:
    before = grid_of(source)
    after = resample_grid(before, target, method=method)
    for row, column in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        torch.testing.assert_close(after[:, row, column], before[:, row, column])


def test_halfway_by_hand() -> None:
    grid = torch.tensor([0.0, 1.0, 2.0, 3.0]).reshape(1, 2, 2, 1)
    assert resample_grid(grid, (3, 3), method="google").flatten().tolist() == [0, 0.5, 1, 1, 1.5, 2, 2, 2.5, 3]
    assert resample_line(grid.reshape(2, 2), 3).tolist() == [[0, 1], [1, 2], [2, 3]]


@pytest.mark.parametrize("target", [(5, 7), (16, 18), (37, 37), (9, 20)])
def test_dinov2_places_its_samples_a_tenth_of_a_patch_too_densely(target: tuple[int, int]) -> None:
    """Along each axis output i is read at (i + 1/2) M / (g + 0.1) - 1/2, not at (i + 1/2) M / g - 1/2."""
    grid = grid_of((16, 16)).double()
    actual = resample_grid(grid, target, method="dinov2")
    assert actual.shape == (2, *target, 3)

    def weights(own: int, wanted: int) -> torch.Tensor:
        """Cubic convolution (a = -3/4) with the border repeated."""
        matrix = torch.zeros(wanted, own, dtype=torch.float64)
        for index in range(wanted):
            at = (index + 0.5) * own / (wanted + 0.1) - 0.5
            for tap in range(int(np.floor(at)) - 1, int(np.floor(at)) + 3):
                t = abs(at - tap)
                near = 1.25 * t**3 - 2.25 * t**2 + 1
                far = -0.75 * t**3 + 3.75 * t**2 - 6 * t + 3
                matrix[index, min(max(tap, 0), own - 1)] += near if t <= 1 else far
        return matrix

    expected = torch.einsum("ai,bj,nijd->nabd", weights(16, target[0]), weights(16, target[1]), grid)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9)


def test_mae_is_bicubic_about_the_middle_of_patches() -> None:
    grid = grid_of((14, 14))
    expected = F.interpolate(grid.permute(0, 3, 1, 2), size=(24, 20), mode="bicubic", align_corners=False)
    assert torch.equal(resample_grid(grid, (24, 20), method="mae"), expected.permute(0, 2, 3, 1))


@pytest.mark.parametrize("length", [1, 3, 7, 20])
def test_a_line_keeps_its_ends_and_is_linear_between(length: int) -> None:
    line = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    actual = resample_line(line, length)
    places = np.linspace(0, 4, length) if length > 1 else np.zeros(1)
    for layer, head, channel in np.ndindex(2, 3, 4):
        expected = np.interp(places, np.arange(5), line[layer, head, :, channel])
        np.testing.assert_allclose(actual[layer, head, :, channel], expected, atol=1e-12)
    assert resample_line(line, 5) is line


def test_gradients_go_through() -> None:
    for method in RESAMPLERS:
        grid = grid_of((3, 4)).requires_grad_()
        resample_grid(grid, (5, 2), method=method).sum().backward()
        assert grid.grad is not None
        assert grid.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", sorted(RESAMPLERS))
def test_half_precision_is_rounded_once_at_the_end(method: str, dtype: torch.dtype) -> None:
    grid = grid_of((4, 6)).to(dtype)
    expected = resample_grid(grid.float(), (7, 3), method=method).to(dtype)
    assert torch.equal(resample_grid(grid, (7, 3), method=method), expected)


@pytest.mark.parametrize("method", sorted(RESAMPLERS))
def test_shapes_follow_without_memory(method: str) -> None:
    grid = torch.empty(2, 14, 14, 8, device="meta")
    assert resample_grid(grid, (24, 9), method=method).shape == (2, 24, 9, 8)
    assert resample_line(grid, 27).shape == (2, 14, 27, 8)


class Resampled(torch.nn.Module):
    """Adds a learned grid and the first line of it, resampled at each call."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.method = method
        self.grid = torch.nn.Parameter(grid_of((4, 4)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + resample_grid(self.grid, (6, 5), method=self.method) + resample_line(self.grid[:, :1], 5)


@pytest.mark.compile
@pytest.mark.parametrize("method", sorted(RESAMPLERS))
def test_is_one_graph_and_can_be_exported(method: str) -> None:
    model, x = Resampled(method), torch.zeros(2, 6, 5, 3)
    expected = model(x)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(compiled, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), expected, rtol=0, atol=1e-5)
