"""BiT and the stem of hybrids give timm's outputs and gradients, with the same epsilons where timm allows it.

timm divides filters by sqrt(var + 1e-8) everywhere. For BiT, its epsilon is set to the original 1e-10, and filters are
so small that the epsilon matters, as for hybrids with timm's numerics. Those of the released hybrids divide by
std + 1e-5, which timm cannot: their filters are so large that no epsilon matters, and the tests of the layer cover it.
"""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from timm.layers import StdConv2d, StdConv2dSame
from timm.models.resnetv2 import ResNetV2
from timm.models.vision_transformer_hybrid import HybridEmbed as TimmHybridEmbed
from torch import Tensor, nn

from vitral.layers.hybrid import HybridEmbed
from vitral.resnet import ResNet, ResNetConfig


def randomised(peer: nn.Module, *, norm_eps: float, filter_std: float, filter_eps: float = 1e-10) -> nn.Module:
    """The peer with random weights and these epsilons."""
    generator = torch.Generator().manual_seed(0)
    for module in peer.modules():
        if isinstance(module, nn.GroupNorm):
            module.eps = norm_eps
        if isinstance(module, StdConv2d | StdConv2dSame):
            module.eps = filter_eps
    peer.double().eval()
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter += torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.5
        for module in peer.modules():
            if isinstance(module, StdConv2d | StdConv2dSame):
                module.weight.normal_(std=filter_std, generator=generator)
    return peer


def assert_same(
    model: nn.Module, peer: nn.Module, images: Tensor, reshape: Callable[[Tensor], Tensor], rename: Callable[[str], str]
) -> None:
    """Both models give the same outputs and gradients with the peer's weights."""
    peer_parameters = dict(peer.named_parameters())
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in peer_parameters.items():
            parameters[rename(name)].copy_(parameter.reshape(parameters[rename(name)].shape))
    assert {rename(name) for name in peer_parameters} == set(parameters)
    output, expected = model(images), reshape(peer(images))
    torch.testing.assert_close(output, expected, rtol=1e-9, atol=1e-9)
    assert output.std() > 0.01
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    gradients = torch.autograd.grad((output * weights).sum(), parameters.values())
    peer_gradients = dict(
        zip(peer_parameters, torch.autograd.grad((expected * weights).sum(), peer_parameters.values()), strict=True)
    )
    for name, gradient in zip(parameters, gradients, strict=True):
        reference = next(peer_gradients[key] for key in peer_gradients if rename(key) == name).reshape(gradient.shape)
        assert reference.abs().max() > 0, name
        torch.testing.assert_close(
            gradient / reference.std(), reference / reference.std(), rtol=1e-9, atol=1e-9, msg=name
        )


@pytest.mark.parametrize("size", [(64, 64), (70, 45)])
def test_bit_equals_timm(size: tuple[int, int]) -> None:
    peer = ResNetV2(
        layers=[2, 1, 1],
        channels=[128, 256, 512],
        stem_chs=32,
        num_classes=5,
        in_chans=2,
        stem_type="fixed",
        conv_layer=partial(StdConv2d, eps=1e-8),
        preact=True,
    )
    model = ResNet(ResNetConfig(stages=(2, 1, 1), root_width=32, num_classes=5, channels=2)).double().eval()
    images = torch.randn(2, 2, *size, dtype=torch.float64)
    head_names = {"head.fc.weight": "head.weight", "head.fc.bias": "head.bias"}
    peer = randomised(peer, norm_eps=1e-5, filter_std=1e-5)
    assert_same(model, peer, images, lambda x: x, lambda name: head_names.get(name, name))


@pytest.mark.parametrize(
    ("stages", "patch", "size"),
    [
        ((), (16, 16), (64, 64)),
        ((2, 1), (8, 8), (40, 64)),
        ((1, 1, 2), (16, 16), (32, 80)),
        ((1, 1), (8, 16), (24, 64)),
    ],
)
@pytest.mark.parametrize(
    ("numerics", "norm_eps", "filter_std"), [("google", 1e-6, 1e8), ("timm", 1e-5, 1e-4)], ids=["google", "timm"]
)
def test_the_stem_of_hybrids_equals_timm(
    stages: tuple[int, ...],
    patch: tuple[int, int],
    size: tuple[int, int],
    numerics: str,
    norm_eps: float,
    filter_std: float,
) -> None:
    backbone = ResNetV2(
        layers=stages,
        channels=[128 * 2**stage for stage in range(len(stages))],
        stem_chs=32,
        num_classes=0,
        global_pool="",
        in_chans=2,
        stem_type="same",
        conv_layer=StdConv2dSame,
        preact=False,
    )
    stride = 4 * 2 ** max(len(stages) - 1, 0)
    patch_on_map = (patch[0] // stride, patch[1] // stride)
    peer = TimmHybridEmbed(backbone, img_size=size, patch_size=patch_on_map, in_chans=2, embed_dim=24)
    model = HybridEmbed(channels=2, stem_stages=stages, stem_width=32, stem_numerics=numerics, patch_hw=patch, width=24)
    images = torch.randn(2, 2, *size, dtype=torch.float64)
    assert_same(
        model.double().eval(),
        randomised(peer, norm_eps=norm_eps, filter_std=filter_std, filter_eps=1e-8),
        images,
        lambda x: x.reshape(2, size[0] // patch[0], size[1] // patch[1], 24),
        lambda name: name,
    )
