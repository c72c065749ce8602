"""The ResNets' parts have the numbers of the code they come from."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitral.layers.resnet import NUMERICS, BiTConv, Bottleneck, GoogleConv, PadSame, PreActivated, init_resnet, stages

GoogleUnit = partial(Bottleneck, numerics=NUMERICS["google"])


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "before", "after"),
    [
        (224, 7, 2, 2, 3),
        (112, 3, 2, 0, 1),
        (56, 3, 2, 0, 1),
        (225, 7, 2, 3, 3),
        (57, 3, 2, 1, 1),
        (14, 3, 1, 1, 1),
        (14, 1, 2, 0, 0),
    ],
)
def test_the_odd_pixel_of_padding_is_at_the_bottom_and_right(
    size: int, kernel: int, stride: int, before: int, after: int
) -> None:
    padded = PadSame(kernel, stride)(torch.ones(1, 1, size, size))
    assert padded.shape[2:] == (before + size + after,) * 2
    rows = padded[0, 0].any(dim=1)
    assert rows.tolist() == [False] * before + [True] * size + [False] * after


@pytest.mark.parametrize(("conv", "epsilon"), [(GoogleConv, "outside"), (BiTConv, "inside")])
def test_filters_have_mean_0_and_deviation_1(conv: type[GoogleConv | BiTConv], epsilon: str) -> None:
    """With filters this small the place of epsilon shows: std + 1e-5 or sqrt(var + 1e-10)."""
    layer = conv(3, 4, 3).double()
    nn.init.normal_(layer.weight, mean=2e-5, std=1e-5)
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    filters = []
    for filter in layer.weight.detach():
        mean = filter.sum() / filter.numel()
        variance = ((filter - mean) ** 2).sum() / filter.numel()
        deviation = math.sqrt(variance) + 1e-5 if epsilon == "outside" else math.sqrt(variance + 1e-10)
        filters.append((filter - mean) / deviation)
    torch.testing.assert_close(layer(x), F.conv2d(x, torch.stack(filters), padding=1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("conv", [GoogleConv, BiTConv])
def test_shift_and_scale_of_a_filter_do_not_matter(conv: type[GoogleConv | BiTConv]) -> None:
    layer, x = conv(3, 4, 3, 2).double(), torch.randn(2, 3, 9, 9, dtype=torch.float64)
    nn.init.normal_(layer.weight, std=100.0)
    before = layer(x)
    with torch.no_grad():
        layer.weight.mul_(torch.tensor([1.0, 7.0, 0.5, 30.0])[:, None, None, None]).add_(3.0)
    torch.testing.assert_close(layer(x), before, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("conv", [GoogleConv, BiTConv])
def test_a_constant_filter_is_zero_and_can_learn(conv: type[GoogleConv | BiTConv]) -> None:
    layer = conv(3, 4, 3)
    nn.init.constant_(layer.weight, 0.5)
    out = layer(torch.randn(2, 3, 5, 5))
    out.sum().backward()
    assert not out.any()
    assert layer.weight.grad is not None
    assert layer.weight.grad.isfinite().all()


def normed(x: Tensor, norm: nn.GroupNorm, eps: float) -> Tensor:
    """GroupNorm of 32 groups written out."""
    groups = x.reshape(len(x), 32, -1)
    mean, variance = groups.mean(-1, keepdim=True), groups.var(-1, keepdim=True, unbiased=False)
    scaled = ((groups - mean) / (variance + eps).sqrt()).reshape(x.shape)
    return scaled * norm.weight[:, None, None] + norm.bias[:, None, None]


def random_unit(unit: type[nn.Module], inputs: int, stride: int) -> nn.Module:
    """Random weights, and an input scale so small that the norms' epsilons show."""
    layer = unit(inputs, 32, stride).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer


@pytest.mark.parametrize(("inputs", "stride"), [(64, 1), (64, 2), (128, 1), (128, 2)])
def test_the_hybrids_unit_written_out(inputs: int, stride: int) -> None:
    unit, x = random_unit(GoogleUnit, inputs, stride), 1e-3 * torch.randn(2, inputs, 6, 6, dtype=torch.float64)
    out = normed(unit.conv1(x), unit.norm1, 1e-6).relu()
    out = normed(unit.conv2(out), unit.norm2, 1e-6).relu()
    out = normed(unit.conv3(out), unit.norm3, 1e-6)
    shortcut = x
    if inputs != 128 or stride != 1:
        shortcut = normed(unit.downsample.conv(x), unit.downsample.norm, 1e-6)
    assert unit.conv2.stride == (stride, stride), "the stride is on the 3x3 convolution"
    assert unit.conv1.stride == (1, 1)
    torch.testing.assert_close(unit(x), (shortcut + out).relu(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("inputs", "stride"), [(64, 1), (64, 2), (128, 1), (128, 2)])
def test_bits_unit_written_out(inputs: int, stride: int) -> None:
    unit, x = random_unit(PreActivated, inputs, stride), 1e-3 * torch.randn(2, inputs, 6, 6, dtype=torch.float64)
    active = normed(x, unit.norm1, 1e-5).relu()
    out = unit.conv1(active)
    assert [conv.stride for conv in (unit.conv1, unit.conv2)] == [(1, 1), (stride, stride)]
    out = unit.conv2(normed(out, unit.norm2, 1e-5).relu())
    out = unit.conv3(normed(out, unit.norm3, 1e-5).relu())
    shortcut = unit.downsample.conv(active) if inputs != 128 or stride != 1 else x
    torch.testing.assert_close(unit(x), shortcut + out, rtol=1e-9, atol=1e-9)


def test_stages_double_in_width_and_halve_the_map() -> None:
    modules = stages(PreActivated, units=(1, 2, 1), width=32)
    assert [len(stage.blocks) for stage in modules] == [1, 2, 1]
    x = torch.zeros(1, 32, 16, 16)
    shapes = []
    for stage in modules:
        x = stage(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(128, 16, 16), (256, 8, 8), (512, 4, 4)]


def test_a_new_unit_is_its_shortcut() -> None:
    unit = GoogleUnit(128, 32, 1)
    init_resnet(unit, torch.Generator().manual_seed(0))
    assert not unit.norm3.weight.any()
    x = torch.rand(1, 128, 4, 4)
    assert torch.equal(unit(x), x)
    for conv in (unit.conv1, unit.conv2, unit.conv3):
        deviation = math.sqrt(1 / conv.weight[0].numel())
        assert conv.weight.std().item() == pytest.approx(deviation, rel=0.05)
        assert conv.weight.abs().max().item() <= 2 * deviation / 0.8796
