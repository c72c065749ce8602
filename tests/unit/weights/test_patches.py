"""The first layer, for other patches and other channels."""

import pytest
import torch
import torch.nn.functional as F
from timm.layers.patch_embed import resample_patch_embed
from timm.models._manipulate import adapt_input_conv

from vitral.layers.resnet import SameConv
from vitral.weights.patches import adapt_channels, resize_patches


@pytest.mark.parametrize("size", [(8, 8), (6, 9), (16, 16)])
def test_an_enlarged_patch_gives_the_same_token(size: tuple[int, int]) -> None:
    weight, patches = torch.randn(5, 3, 4, 4, dtype=torch.float64), torch.randn(7, 3, 4, 4, dtype=torch.float64)
    enlarged = F.interpolate(patches, size=size, mode="bilinear", antialias=True)
    tokens = F.conv2d(enlarged, resize_patches(weight, size))
    torch.testing.assert_close(tokens, F.conv2d(patches, weight), rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", [(2, 2), (3, 5), (12, 12)])
def test_is_timms_pseudo_inverse(size: tuple[int, int]) -> None:
    weight = torch.randn(5, 3, 6, 6)
    theirs = resample_patch_embed(weight, list(size), interpolation="bilinear", antialias=True)
    torch.testing.assert_close(resize_patches(weight, size), theirs, rtol=0, atol=1e-4)


def test_the_same_size_and_channels_change_nothing() -> None:
    weight = torch.randn(5, 3, 6, 4)
    assert resize_patches(weight, (6, 4)) is weight
    assert adapt_channels(weight, 3) is weight


def test_one_channel_is_the_sum() -> None:
    weight = torch.randn(2, 3, 4, 4)
    assert torch.equal(adapt_channels(weight, 1), weight.sum(1, keepdim=True))


@pytest.mark.parametrize(("channels", "order"), [(2, [0, 1]), (4, [0, 1, 2, 0]), (6, [0, 1, 2, 0, 1, 2])])
def test_more_channels_take_the_old_ones_in_turn(channels: int, order: list[int]) -> None:
    weight = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(adapt_channels(weight, channels), weight[:, order] * 3 / channels)


def test_twice_the_channels_of_the_same_image_give_the_same_tokens() -> None:
    weight, image = torch.randn(2, 3, 4, 4), torch.randn(1, 3, 4, 4)
    twice = F.conv2d(image.repeat(1, 2, 1, 1), adapt_channels(weight, 6))
    torch.testing.assert_close(twice, F.conv2d(image, weight))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 8])
def test_channels_are_timms(channels: int) -> None:
    weight = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(adapt_channels(weight, channels), adapt_input_conv(channels, weight))


def test_a_grey_image_gives_what_it_gave() -> None:
    weight, grey = torch.randn(5, 3, 4, 4, dtype=torch.float64), torch.randn(2, 1, 8, 8, dtype=torch.float64)
    expected = F.conv2d(grey.expand(-1, 3, -1, -1), weight)
    torch.testing.assert_close(F.conv2d(grey, adapt_channels(weight, 1)), expected, rtol=0, atol=1e-9)


def test_standardised_filters_give_of_a_grey_image_a_multiple_of_what_they_gave() -> None:
    grey = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    before, after = SameConv(3, 5, 3).double(), SameConv(1, 5, 3).double()
    with torch.no_grad():
        before.weight.normal_()
        after.weight.copy_(adapt_channels(before.weight, 1))
        found, given = after(grey), before(grey.expand(-1, 3, -1, -1))
    factors = (found * given).sum((0, 2, 3), keepdim=True) / given.square().sum((0, 2, 3), keepdim=True)
    assert factors.min() > 0
    torch.testing.assert_close(found, factors * given, rtol=0, atol=1e-9)
