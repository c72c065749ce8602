"""Mixup and CutMix by their definitions, and by hand."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from vitral.data.augment.mix import MixConfig, Mixing, draw_mixing, mix
from vitral.data.examples import UNREADABLE, Examples


def drawn(config: MixConfig, pairs: int = 20_000, *, step: int = 0, seed: int = 0) -> Mixing:
    index = np.arange(2 * pairs)
    return draw_mixing(config, seed=seed, epoch=np.zeros(2 * pairs, np.int64), index=index, step=step)


def mixing(share: float, *, cut: bool, centre: tuple[float, float] = (0.5, 0.5), pairs: int = 1) -> Mixing:
    return Mixing(
        shares=torch.full((pairs,), share),
        cut=torch.full((pairs,), cut),
        centres=torch.tensor([centre]).expand(pairs, 2),
    )


def pair(h: int = 8, w: int = 6) -> Examples:
    return Examples(images=torch.stack([torch.zeros(1, h, w), torch.ones(1, h, w)]), labels=torch.tensor([3, 5]))


class TestDraws:
    @pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0, 4.0])
    def test_the_weight_of_mixup_is_the_larger_side_of_a_beta(self, alpha):
        shares = drawn(MixConfig(mixup=alpha)).shares.double().numpy()
        assert shares.min() >= 0.5
        # bins of equal probability, as single precision rounds many weights of a small alpha to 1
        edges = stats.beta(alpha, alpha).ppf(np.linspace(0.5, 1, 11)[1:-1])
        counts = np.bincount(np.searchsorted(edges, shares), minlength=10)
        assert stats.chisquare(counts).pvalue > 1e-4

    @pytest.mark.parametrize("alpha", [0.5, 1.0])
    def test_the_weight_of_cutmix_is_a_beta(self, alpha):
        found = drawn(MixConfig(cutmix=alpha))
        assert found.cut.all()
        assert stats.kstest(found.shares.double(), stats.beta(alpha, alpha).cdf).pvalue > 1e-4
        for axis in range(2):
            assert stats.kstest(found.centres[:, axis].double(), "uniform").pvalue > 1e-4

    def test_probability_and_switch(self):
        found = drawn(MixConfig(mixup=0.8, cutmix=1.0, probability=0.6, switch=0.3))
        assert (found.shares < 1).float().mean().item() == pytest.approx(0.6, abs=4 * math.sqrt(0.24 / 20_000))
        assert found.cut.float().mean().item() == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 20_000))

    def test_one_draw_a_batch_depends_on_the_step_alone(self):
        config = MixConfig(mixup=0.2, per="batch")
        found = [drawn(config, pairs, step=step).shares for pairs, step in ((5, 0), (9, 0), (5, 1))]
        assert len({share.item() for share in (*found[0], *found[1])}) == 1
        assert not torch.equal(found[0], found[2])

    def test_a_pair_is_drawn_by_its_first_sample(self):
        config, epoch, index = MixConfig(mixup=0.8, cutmix=1.0), np.array([0, 0, 4, 4]), np.array([7, 1, 9, 2])
        both = draw_mixing(config, seed=1, epoch=epoch, index=index, step=0)
        second = draw_mixing(config, seed=1, epoch=epoch[2:], index=index[2:], step=8)
        assert torch.equal(both.shares[1:], second.shares)
        assert torch.equal(both.centres[1:], second.centres)


class TestMix:
    def test_mixup_by_hand(self):
        mixed = mix(pair(), mixing(0.75, cut=False))
        torch.testing.assert_close(mixed.images[0], torch.full((1, 8, 6), 0.25))
        torch.testing.assert_close(mixed.images[1], torch.full((1, 8, 6), 0.75))
        assert mixed.labels.tolist() == [3, 5]
        assert mixed.partners.tolist() == [5, 3]
        torch.testing.assert_close(mixed.shares, torch.tensor([0.75, 0.75]))

    def test_cutmix_by_hand(self):
        """A quarter of 8x6 pixels is a box of 4x3, of which an even width of 2 lies around the middle."""
        mixed = mix(pair(), mixing(0.75, cut=True))
        expected = torch.zeros(1, 8, 6)
        expected[:, 2:6, 2:4] = 1
        assert torch.equal(mixed.images[0], expected)
        assert torch.equal(mixed.images[1], 1 - expected)
        torch.testing.assert_close(mixed.shares, torch.full((2,), 1 - 8 / 48))

    def test_a_box_over_the_edge_counts_what_is_inside(self):
        mixed = mix(pair(8, 8), mixing(0.75, cut=True, centre=(0.0, 0.99)))
        expected = torch.zeros(1, 8, 8)
        expected[:, :2, 5:] = 1
        assert torch.equal(mixed.images[0], expected)
        torch.testing.assert_close(mixed.shares, torch.full((2,), 1 - 6 / 64))

    @pytest.mark.parametrize("cut", [False, True])
    def test_nothing_is_mixed_with_an_image_that_could_not_be_read(self, cut):
        images = torch.rand(6, 3, 4, 4)
        labels = torch.tensor([UNREADABLE, 1, 2, UNREADABLE, 4, 5])
        mixed = mix(Examples(images=images, labels=labels), mixing(0.5, cut=cut, pairs=3))
        assert torch.equal(mixed.images[:4], images[:4])
        assert not torch.equal(mixed.images[4:], images[4:])
        assert mixed.partners.tolist() == [UNREADABLE, 1, 2, UNREADABLE, 5, 4]
        assert mixed.shares[:4].tolist() == [1, 1, 1, 1]

    @pytest.mark.parametrize("cut", [False, True])
    def test_a_share_of_one_changes_nothing(self, cut):
        images = torch.rand(4, 3, 5, 7)
        mixed = mix(Examples(images=images, labels=torch.arange(4)), mixing(1.0, cut=cut, pairs=2))
        assert torch.equal(mixed.images, images)
        assert mixed.shares.tolist() == [1, 1, 1, 1]

    def test_any_even_share_of_a_batch_is_mixed_alike(self):
        config = MixConfig(mixup=0.8, cutmix=1.0)
        examples = Examples(images=torch.rand(8, 1, 4, 4), labels=torch.arange(8))
        index, epoch = np.arange(8) * 3, np.ones(8, np.int64)
        whole = mix(examples, draw_mixing(config, seed=2, epoch=epoch, index=index, step=3))
        for number, part in enumerate(examples.chunk(2)):
            rows = slice(4 * number, 4 * number + 4)
            alone = mix(part, draw_mixing(config, seed=2, epoch=epoch[rows], index=index[rows], step=3))
            for name in ("images", "partners", "shares"):
                assert torch.equal(getattr(alone, name), getattr(whole, name)[rows])


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"mixup": -0.1}, "mixup and cutmix must be at least 0, not -0.1"),
        ({"cutmix": math.nan}, "mixup and cutmix must be at least 0"),
        ({"probability": 1.1}, "probability and switch must be from 0 to 1, not 1.1"),
        ({"switch": -1.0}, "probability and switch must be from 0 to 1"),
    ],
)
def test_values_out_of_range(values, reason):
    with pytest.raises(ValueError, match=reason):
        MixConfig(**values)
