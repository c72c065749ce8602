"""Patch embedding weights for other patch sizes and other numbers of channels."""

import pytest
import torch
import torch.nn.functional as F
from timm.layers.patch_embed import resample_patch_embed as timm_resample_patch_embed
from timm.models._manipulate import adapt_input_conv as timm_adapt_input_conv

from vitral.layers.resnet import GoogleConv
from vitral.weights.patch_embed import adapt_input_conv, resample_patch_embed


@pytest.mark.parametrize("size", [(8, 8), (6, 9), (16, 16)])
def test_an_enlarged_patch_gives_the_same_token(size: tuple[int, int]) -> None:
    weight, patches = torch.randn(5, 3, 4, 4, dtype=torch.float64), torch.randn(7, 3, 4, 4, dtype=torch.float64)
    enlarged = F.interpolate(patches, size=size, mode="bilinear", antialias=True)
    tokens = F.conv2d(enlarged, resample_patch_embed(weight, size))
    torch.testing.assert_close(tokens, F.conv2d(patches, weight), rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", [(2, 2), (3, 5), (12, 12)])
def test_resampling_equals_timm(size: tuple[int, int]) -> None:
    weight = torch.randn(5, 3, 6, 6)
    expected = timm_resample_patch_embed(weight, list(size), interpolation="bilinear", antialias=True)
    torch.testing.assert_close(resample_patch_embed(weight, size), expected, rtol=0, atol=1e-4)


def test_the_same_size_and_channels_change_nothing() -> None:
    weight = torch.randn(5, 3, 6, 4)
    assert resample_patch_embed(weight, (6, 4)) is weight
    assert adapt_input_conv(weight, 3) is weight


def test_one_channel_is_the_sum() -> None:
    weight = torch.randn(2, 3, 4, 4)
    assert torch.equal(adapt_input_conv(weight, 1), weight.sum(1, keepdim=True))


@pytest.mark.parametrize(("channels", "order"), [(2, [0, 1]), (4, [0, 1, 2, 0]), (6, [0, 1, 2, 0, 1, 2])])
def test_more_channels_repeat_the_old_ones(channels: int, order: list[int]) -> None:
    weight = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(adapt_input_conv(weight, channels), weight[:, order] * 3 / channels)


def test_twice_the_channels_of_the_same_image_give_the_same_tokens() -> None:
    weight, image = torch.randn(2, 3, 4, 4), torch.randn(1, 3, 4, 4)
    twice = F.conv2d(image.repeat(1, 2, 1, 1), adapt_input_conv(weight, 6))
    torch.testing.assert_close(twice, F.conv2d(image, weight))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 8])
def test_channels_equal_timm(channels: int) -> None:
    weight = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(adapt_input_conv(weight, channels), timm_adapt_input_conv(channels, weight))


def test_a_grey_image_gives_the_same_output_with_one_channel() -> None:
    weight, grey = torch.randn(5, 3, 4, 4, dtype=torch.float64), torch.randn(2, 1, 8, 8, dtype=torch.float64)
    expected = F.conv2d(grey.expand(-1, 3, -1, -1), weight)
    torch.testing.assert_close(F.conv2d(grey, adapt_input_conv(weight, 1)), expected, rtol=0, atol=1e-9)


def test_standardised_filters_give_a_multiple_of_the_output_for_a_grey_image() -> None:
    grey = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    before, after = GoogleConv(3, 5, 3).double(), GoogleConv(1, 5, 3).double()
    with torch.no_grad():
        before.weight.normal_()
        after.weight.copy_(adapt_input_conv(before.weight, 1))
        output, original = after(grey), before(grey.expand(-1, 3, -1, -1))
    factors = (output * original).sum((0, 2, 3), keepdim=True) / original.square().sum((0, 2, 3), keepdim=True)
    assert factors.min() > 0
    torch.testing.assert_close(output, factors * original, rtol=0, atol=1e-9)
