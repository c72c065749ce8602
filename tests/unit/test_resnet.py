"""The BiT ResNet counts what the published one counts and refuses what cannot be built."""

import math
from typing import Any

import pytest
import timm
import torch
from timm.models.resnetv2 import ResNetV2
from torch import nn

from vitral.models import architecture, blank_model
from vitral.resnet import DEPTHS, ResNet, ResNetConfig

TINY: dict[str, Any] = dict(image_size=32, channels=2, stages=(1, 1), root_width=32, num_classes=5)


def assert_same_shapes(name: str, theirs: nn.Module) -> None:
    """A model of ours has the names and shapes of the peer's, but for the head's."""
    ours = {key: value.shape for key, value in blank_model(architecture(name)).named_parameters()}
    peers = {key.replace("head.fc", "head"): value.shape for key, value in theirs.named_parameters()}
    assert ours == {**peers, "head.weight": peers["head.weight"][:2]}


@pytest.mark.parametrize("name", ["50x1", "50x3", "101x1", "101x3", "152x2", "152x4"])
def test_published_models_are_timms(name: str) -> None:
    with torch.device("meta"):
        assert_same_shapes(f"BiT-R{name}", timm.create_model(f"resnetv2_{name}_bit", num_classes=1000))


@pytest.mark.parametrize(
    ("depth", "factor", "units"), [(50, 2, (3, 4, 6, 3)), (152, 1, (3, 8, 36, 3)), (200, 3, (3, 24, 36, 3))]
)
def test_the_papers_other_models_are_what_timm_would_make(depth: int, factor: int, units: tuple[int, ...]) -> None:
    with torch.device("meta"):
        assert_same_shapes(f"BiT-R{depth}x{factor}", ResNetV2(layers=units, width_factor=factor, stem_type="fixed"))


def test_r50x1_has_the_published_number_of_parameters() -> None:
    assert sum(parameter.numel() for parameter in blank_model(ResNetConfig()).parameters()) == 25_549_352


def test_layers_are_what_the_name_says() -> None:
    """Three convolutions a unit, the root's and the head make the number."""
    assert {depth: 3 * sum(units) + 2 for depth, units in DEPTHS.items()} == {50: 50, 101: 101, 152: 152, 200: 200}


def test_features_are_pooled_and_classified() -> None:
    model = ResNet(ResNetConfig(**TINY)).double().eval()
    nn.init.normal_(model.head.weight)
    images = torch.randn(3, 2, 32, 48, dtype=torch.float64)
    features = model.features(images)
    assert features.map.shape == (3, 256, 4, 6)
    assert features.map.min() == 0
    torch.testing.assert_close(features.pooled, features.map.mean(dim=(2, 3)))
    expected = features.pooled @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(model(images), expected, rtol=0, atol=1e-12)


def test_a_fresh_model_gives_the_heads_bias() -> None:
    model = ResNet(ResNetConfig(**{**TINY, "head_bias": -10.0}))
    assert torch.equal(model(torch.randn(2, 2, 32, 32)), torch.full((2, 5), -10.0))


def test_initial_filters_are_lecuns() -> None:
    model = ResNet(ResNetConfig(**TINY))
    for conv in (module for module in model.modules() if isinstance(module, nn.Conv2d)):
        deviation = math.sqrt(1 / conv.weight[0].numel())
        assert conv.weight.std().item() == pytest.approx(deviation, rel=0.1)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (dict(channels=0), "channels must be at least 1, not 0"),
        (dict(width_factor=0), "width_factor must be at least 1, not 0"),
        (dict(stages=()), "stages must name at least one unit for each stage"),
        (dict(stages=(1, 0)), "stages must name at least one unit for each stage"),
        (dict(root_width=40), "root_width must be a multiple of 32"),
        (dict(image_size=0), "image size must be at least 1 pixel, not 0x0"),
    ],
)
def test_sizes_that_cannot_be_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ResNetConfig(**{**TINY, **changes})


def test_images_of_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="this model takes images of 2 channels, not 3"):
        ResNet(ResNetConfig(**TINY))(torch.zeros(1, 3, 32, 32))
