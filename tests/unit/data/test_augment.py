"""Augmentation: each draw a function of (seed, epoch, sample), each geometry what its definition says."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch.utils._python_dispatch import TorchDispatchMode

from vitral.data.augment.config import AugmentConfig
from vitral.data.augment.crop import crop_box
from vitral.data.augment.geometry import flip, warp
from vitral.data.augment.params import sample_params

SEEDS = st.integers(0, 2**63 - 1)
RATIOS = st.tuples(st.floats(0.1, 4), st.floats(0.1, 4)).map(lambda pair: tuple(sorted(pair)))
SHARES = st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(lambda pair: tuple(sorted(pair)))
SIZES = st.tuples(st.integers(1, 3000), st.integers(1, 3000))


def draws_of(config: AugmentConfig, count: int, *, seed: int = 0):
    return sample_params(config, seed=seed, epoch=np.zeros(count, np.int64), index=np.arange(count))


def matrices(*rows: list[list[float]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32)


def boxes(config: AugmentConfig, size: tuple[int, int], count: int) -> np.ndarray:
    return np.array([crop_box(config, size, seed=4, epoch=0, index=index) for index in range(count)])


class TestDraws:
    def test_defaults_change_nothing(self):
        draws = draws_of(AugmentConfig(), 50)
        assert not draws.flips.any()
        assert draws.warps is None
        assert crop_box(AugmentConfig(), (30, 20), seed=1, epoch=2, index=3) == (0, 0, 1, 1)

    def test_each_is_a_function_of_seed_epoch_and_sample(self):
        config = AugmentConfig(flip=True, shift=3, rotate=20.0, scale=0.2)
        epoch, index = np.array([0, 0, 1, 1, 0]), np.array([5, 6, 5, 6, 5])
        together = sample_params(config, seed=9, epoch=epoch, index=index)
        for row in range(5):
            alone = sample_params(config, seed=9, epoch=epoch[row : row + 1], index=index[row : row + 1])
            assert torch.equal(alone.flips[0], together.flips[row])
            assert torch.equal(alone.warps[0], together.warps[row])
        assert torch.equal(together.warps[0], together.warps[4])
        assert len({tuple(warp.flatten().tolist()) for warp in together.warps}) == 4
        assert not torch.equal(sample_params(config, seed=8, epoch=epoch, index=index).warps, together.warps)

    def test_half_of_the_images_are_mirrored(self):
        flips = draws_of(AugmentConfig(flip=True), 20_000).flips
        assert abs(flips.float().mean() - 0.5) < 4 * 0.5 / math.sqrt(20_000)

    def test_every_whole_shift_is_as_likely(self):
        warps = draws_of(AugmentConfig(shift=2), 20_000).warps
        assert torch.equal(warps[:, :, :2], torch.eye(2).expand(20_000, 2, 2))
        shifts = (warps[:, :, 2] + 2).long()
        counts = np.bincount(shifts[:, 0] * 5 + shifts[:, 1], minlength=25)
        assert torch.equal(shifts - 2, warps[:, :, 2].long())
        assert len(counts) == 25
        assert stats.chisquare(counts).pvalue > 1e-4

    def test_rotation_and_scale_are_even_within_their_limits(self):
        linear = draws_of(AugmentConfig(rotate=30.0, scale=0.25), 20_000).warps[:, :, :2].double()
        angle = torch.atan2(linear[:, 1, 0], linear[:, 0, 0]).rad2deg()
        larger = 1 / linear.det().sqrt()
        assert stats.kstest(angle, "uniform", args=(-30, 60)).pvalue > 1e-4
        assert stats.kstest(larger, "uniform", args=(0.75, 0.5)).pvalue > 1e-4
        assert abs(np.corrcoef(angle, larger)[0, 1]) < 4 / math.sqrt(20_000)
        assert torch.equal(linear[:, 0, 0], linear[:, 1, 1])
        assert torch.equal(linear[:, 0, 1], -linear[:, 1, 0])

    def test_mirroring_does_not_depend_on_what_else_varies(self):
        alone = draws_of(AugmentConfig(flip=True), 100)
        assert torch.equal(alone.flips, draws_of(AugmentConfig(flip=True, shift=1, rotate=5.0), 100).flips)


class TestFlip:
    def test_mirrors_exactly_those_that_are_named(self):
        images = torch.randint(0, 256, (3, 5, 7, 3), dtype=torch.uint8)
        mirrored = flip(images, torch.tensor([True, False, True]))
        assert np.array_equal(mirrored[0], images[0].numpy()[:, ::-1])
        assert torch.equal(mirrored[1], images[1])
        assert np.array_equal(mirrored[2], images[2].numpy()[:, ::-1])


class TestWarp:
    def test_identity_changes_nothing(self):
        images = torch.rand(2, 3, 6, 9)
        torch.testing.assert_close(warp(images, matrices([[1, 0, 0], [0, 1, 0]]).expand(2, 2, 3)), images)

    @pytest.mark.parametrize(("dx", "dy"), [(1, 0), (0, 1), (-2, 0), (0, -3), (2, -1), (9, 0)])
    def test_whole_shift_moves_pixels_and_brings_in_zero(self, dx, dy):
        h, w = 6, 9
        image = torch.rand(1, 2, h, w)
        expected = torch.zeros_like(image)
        for y in range(h):
            for x in range(w):
                if 0 <= y + dy < h and 0 <= x + dx < w:
                    expected[:, :, y, x] = image[:, :, y + dy, x + dx]
        moved = warp(image, matrices([[1, 0, dx], [0, 1, dy]]))
        torch.testing.assert_close(moved, expected, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("size", [6, 7])
    def test_quarter_turn_of_a_square_is_exact(self, size):
        image = torch.rand(1, 1, size, size)
        turned = warp(image, matrices([[0, -1, 0], [1, 0, 0]]))
        torch.testing.assert_close(turned, torch.rot90(image, 1, (2, 3)), rtol=0, atol=1e-5)

    def test_quarter_turn_of_an_oblong_keeps_pixels_square(self):
        """A bar of 1x5 pixels becomes one of 5x1 about the same centre."""
        image = torch.zeros(1, 1, 7, 9)
        image[..., 3, 2:7] = 1
        expected = torch.zeros(1, 1, 7, 9)
        expected[..., 1:6, 4] = 1
        torch.testing.assert_close(warp(image, matrices([[0, -1, 0], [1, 0, 0]])), expected, rtol=0, atol=1e-5)

    def test_scale_enlarges_about_the_centre(self):
        image = torch.zeros(1, 1, 12, 8)
        image[..., 5:7, 3:5] = 1
        enlarged = warp(image, matrices([[0.5, 0, 0], [0, 0.5, 0]]))
        assert torch.equal(enlarged, enlarged.flip(2))
        assert torch.equal(enlarged, enlarged.flip(3))
        assert enlarged.sum().item() == pytest.approx(4 * image.sum().item())

    def test_makes_no_tensor_on_the_host(self):
        """On a GPU, a copy of one would make it wait at every step."""

        class Calls(TorchDispatchMode):
            def __init__(self) -> None:
                super().__init__()
                self.names: list[str] = []

            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                self.names.append(func.overloadpacket.__name__)
                return func(*args, **(kwargs or {}))

        images, identity = torch.rand(2, 3, 6, 9), matrices([[1, 0, 0], [0, 1, 0]]).expand(2, 2, 3)
        with Calls() as calls:
            torch.tensor([1.0])
            assert calls.names == ["lift_fresh"]
            warp(images, identity)
        assert calls.names.count("lift_fresh") == 1


class TestCrop:
    @given(SIZES, SHARES, RATIOS, SEEDS, st.integers(0, 1000), st.integers(0, 10**7))
    def test_is_always_inside_the_image(self, size, area, aspect, seed, epoch, index):
        config = AugmentConfig(crop="inception", crop_area=area, crop_aspect=aspect)
        left, top, right, bottom = crop_box(config, size, seed=seed, epoch=epoch, index=index)
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1
        assert (left, top, right, bottom) == crop_box(config, size, seed=seed, epoch=epoch, index=index)

    @pytest.mark.parametrize("size", [(100, 100), (300, 200)])
    def test_area_and_aspect_where_every_crop_fits(self, size):
        """Up to half of the area, nothing is ever drawn again: area is even, aspect even in its logarithm."""
        config = AugmentConfig(crop="inception", crop_area=(0.05, 0.5))
        left, top, right, bottom = boxes(config, size, 5000).T
        area, aspect = (right - left) * (bottom - top), (right - left) / (bottom - top) * size[0] / size[1]
        assert stats.kstest(area, "uniform", args=(0.05, 0.45)).pvalue > 1e-4
        assert stats.kstest(np.log(aspect), "uniform", args=(math.log(3 / 4), math.log(16 / 9))).pvalue > 1e-4
        assert stats.kstest(left / (1 - (right - left)), "uniform").pvalue > 1e-4
        assert stats.kstest(top / (1 - (bottom - top)), "uniform").pvalue > 1e-4

    @pytest.mark.parametrize("size", [(100, 100), (300, 100), (64, 200)])
    def test_area_and_aspect_among_those_that_fit(self, size):
        """Against plain rejection in pixels, as the crop is described."""
        width, height = size
        rng = np.random.default_rng(0)
        area = rng.uniform(0.05, 1, 400_000) * width * height
        aspect = np.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3), 400_000))
        w, h = np.sqrt(area * aspect), np.sqrt(area / aspect)
        fits = (w <= width) & (h <= height)
        found = boxes(AugmentConfig(crop="inception"), size, 5000)
        drawn = (found[:, 2] - found[:, 0] < 1) & (found[:, 3] - found[:, 1] < 1)
        assert drawn.mean() == pytest.approx(1 - (1 - fits.mean()) ** 10, abs=0.01)
        found = found[drawn]
        crop_w, crop_h = (found[:, 2] - found[:, 0]) * width, (found[:, 3] - found[:, 1]) * height
        whole = found.mean(0)
        assert stats.ks_2samp(crop_w * crop_h, area[fits]).pvalue > 1e-4
        assert stats.ks_2samp(crop_w / crop_h, aspect[fits]).pvalue > 1e-4
        assert whole[0] + whole[2] == pytest.approx(1, abs=0.02)
        assert whole[1] + whole[3] == pytest.approx(1, abs=0.02)

    @pytest.mark.parametrize("size", [(448, 448), (31, 200)])
    def test_six_sevenths_of_a_squashed_image_anywhere(self, size):
        found = boxes(AugmentConfig(crop="square"), size, 2000)
        np.testing.assert_allclose(found[:, 2:] - found[:, :2], 6 / 7)
        for starts in found[:, :2].T:
            assert stats.kstest(starts, stats.uniform(0, 1 / 7).cdf).pvalue > 1e-4

    @pytest.mark.parametrize(
        ("size", "box"),
        [
            ((1000, 10), (1 / 2 - 4 / 600, 0, 1 / 2 + 4 / 600, 1)),
            ((10, 1000), (0, 1 / 2 - 4 / 600, 1, 1 / 2 + 4 / 600)),
        ],
    )
    def test_fallback_is_the_largest_central_crop_of_an_allowed_aspect(self, size, box):
        config = AugmentConfig(crop="inception", crop_area=(0.9, 1.0))
        assert crop_box(config, size, seed=0, epoch=0, index=0) == pytest.approx(box)

    def test_fallback_keeps_an_image_of_an_allowed_aspect_whole(self):
        config = AugmentConfig(crop="inception", crop_area=(1.0, 1.0))
        assert crop_box(config, (110, 100), seed=0, epoch=0, index=0) == pytest.approx((0, 0, 1, 1))

    def test_is_a_function_of_seed_epoch_and_sample(self):
        config = AugmentConfig(crop="inception")
        places = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
        assert len({crop_box(config, (9, 9), seed=s, epoch=e, index=i) for s, e, i in places}) == 4


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"crop_area": (0.0, 1.0)}, "crop_area must be two fractions"),
        ({"crop_area": (0.5, 0.2)}, "crop_area must be two fractions"),
        ({"crop_area": (0.5, 1.2)}, "crop_area must be two fractions"),
        ({"crop_aspect": (0.0, 1.0)}, "crop_aspect must be two ratios"),
        ({"crop_aspect": (2.0, 1.0)}, "crop_aspect must be two ratios"),
        ({"crop_aspect": (1.0, math.inf)}, "crop_aspect must be two ratios"),
        ({"shift": -1}, "shift and rotate must be at least 0, not -1"),
        ({"rotate": -1.0}, "shift and rotate must be at least 0, not 0 and -1.0"),
        ({"rotate": math.nan}, "shift and rotate must be at least 0, not 0 and nan"),
        ({"scale": 1.0}, "scale must be at least 0 and below 1, not 1.0"),
        ({"scale": math.nan}, "scale must be at least 0 and below 1, not nan"),
    ],
)
def test_values_out_of_range(values, reason):
    with pytest.raises(ValueError, match=reason):
        AugmentConfig(**values)
