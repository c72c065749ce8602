"""BiT and the hybrids' stem give the outputs and gradients of timm's, where their numbers can be made the same.

timm divides filters by sqrt(var + 1e-8) everywhere; its epsilons are set to what the originals have, and filters are
drawn so large that what is left between sqrt(var + eps) and std + eps is below the tolerance.
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


def randomised(peer: nn.Module, *, norm_eps: float) -> nn.Module:
    """The peer with random weights, large filters, and the epsilons of the original."""
    generator = torch.Generator().manual_seed(0)
    for module in peer.modules():
        if isinstance(module, nn.GroupNorm):
            module.eps = norm_eps
        if isinstance(module, StdConv2d | StdConv2dSame):
            module.eps = 1e-10
    peer.double().eval()
    with torch.no_grad():
        for name, parameter in peer.named_parameters():
            scale = 1e4 if parameter.ndim == 4 and "proj" not in name and "fc" not in name else 0.5
            parameter += torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * scale
    return peer


def assert_same(
    ours: nn.Module, peer: nn.Module, images: Tensor, read: Callable[[Tensor], Tensor], names: Callable[[str], str]
) -> None:
    """Both give the same outputs and gradients for the peer's weights."""
    peers = dict(peer.named_parameters())
    own = dict(ours.named_parameters())
    with torch.no_grad():
        for name, parameter in peers.items():
            own[names(name)].copy_(parameter.reshape(own[names(name)].shape))
    assert {names(name) for name in peers} == set(own)
    found, expected = ours(images), read(peer(images))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert found.std() > 0.01
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(found.shape, generator=generator, dtype=torch.float64)
    gradients = torch.autograd.grad((found * weights).sum(), own.values())
    theirs = dict(zip(peers, torch.autograd.grad((expected * weights).sum(), peers.values()), strict=True))
    for name, gradient in zip(own, gradients, strict=True):
        other = next(theirs[peer] for peer in theirs if names(peer) == name).reshape(gradient.shape)
        assert other.abs().max() > 0, name
        torch.testing.assert_close(gradient / other.std(), other / other.std(), rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("size", [(64, 64), (70, 45)])
def test_bit_agrees(size: tuple[int, int]) -> None:
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
    ours = ResNet(ResNetConfig(stages=(2, 1, 1), root_width=32, num_classes=5, channels=2)).double().eval()
    images = torch.randn(2, 2, *size, dtype=torch.float64)
    rename = {"head.fc.weight": "head.weight", "head.fc.bias": "head.bias"}
    assert_same(ours, randomised(peer, norm_eps=1e-5), images, lambda x: x, lambda name: rename.get(name, name))


@pytest.mark.parametrize(("stages", "patch"), [((), 16), ((2, 1), 8), ((1, 1, 2), 16)])
def test_the_hybrids_stem_agrees(stages: tuple[int, ...], patch: int) -> None:
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
    peer = TimmHybridEmbed(backbone, img_size=64, patch_size=patch // stride, in_chans=2, embed_dim=24)
    ours = HybridEmbed(channels=2, stem_stages=stages, stem_width=32, patch_hw=(patch, patch), width=24)
    images = torch.randn(2, 2, 64, 64, dtype=torch.float64)
    side = 64 // patch
    assert_same(
        ours.double().eval(),
        randomised(peer, norm_eps=1e-6),
        images,
        lambda x: x.reshape(2, side, side, 24),
        lambda name: name,
    )
