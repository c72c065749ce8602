"""Fine-tuning starts from the trained features, a zero head and interpolated positions."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from vitral.card import ModelCard
from vitral.data.images.preprocess import Preprocessing
from vitral.resnet import ResNet, ResNetConfig
from vitral.vit import ViT
from vitral.vit_config import ViTConfig
from vitral.weights.transfer import transfer_weights

CONFIG = ViTConfig(image_size=12, patch_size=4, width=16, depth=2, num_heads=2, mlp_dim=32, num_classes=3)
CLASSES = ("a", "b", "c")


def trained(config: ViTConfig = CONFIG) -> ViT:
    """A model with random weights everywhere, including the head."""
    model = ViT(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    preprocessing = Preprocessing(image_size=config.image_hw, channels=3)
    model.card = ModelCard(preprocessing=preprocessing, classes=CLASSES)
    return model


def fresh(**changes) -> ViT:
    return ViT(replace(CONFIG, **changes)).eval()


def test_other_classes_get_a_zero_head_and_the_same_features():
    source, target = trained(), fresh(num_classes=5)
    assert transfer_weights(source, target, classes=("v", "w", "x", "y", "z")) == ["new zero head for 5 classes"]
    images = torch.randn(4, 3, 12, 12)
    assert torch.equal(target(images), torch.zeros(4, 5))
    assert torch.equal(target.features(images).pooled, source.features(images).pooled)


def test_the_same_classes_keep_the_head():
    source, target = trained(), fresh(dropout=0.1)
    assert transfer_weights(source, target, classes=CLASSES) == ["head kept: the classes are the same"]
    images = torch.randn(4, 3, 12, 12)
    assert torch.equal(target(images), source(images))


@pytest.mark.parametrize("classes", [("b", "a", "c"), ("a", "b", "d")])
def test_classes_are_compared_by_name_and_order(classes):
    target = fresh()
    assert transfer_weights(trained(), target, classes=classes) == ["new zero head for 3 classes"]
    assert not target.head.weight.any()


def test_without_class_names_the_head_is_not_transferred():
    source = trained()
    source.card = None
    assert transfer_weights(source, fresh(), classes=CLASSES) == ["new zero head for 3 classes"]


@pytest.mark.parametrize(("before", "after"), [(16, None), (None, 16), (8, 16)])
def test_another_representation_layer_gives_a_new_head(before, after):
    """Even if it is as wide as the tokens, so that both heads have the same shape."""
    source, target = trained(replace(CONFIG, representation_size=before)), fresh(representation_size=after)
    assert transfer_weights(source, target, classes=CLASSES) == ["new zero head for 3 classes"]
    assert not target(torch.randn(2, 3, 12, 12)).any()


@pytest.mark.parametrize("pool", ["cls", "gap"])
def test_another_resolution_interpolates_positions(pool):
    source = trained(replace(CONFIG, pool=pool))
    target = fresh(image_size=(20, 8), pool=pool)
    assert transfer_weights(source, target, classes=CLASSES) == [
        "head kept: the classes are the same",
        "positions interpolated from 3x3 to 5x2 patches",
    ]
    assert torch.equal(target.pos_embed, source.positions.resampled(source.pos_embed, (5, 2)))
    assert torch.equal(target.blocks[1].mlp.fc2.weight, source.blocks[1].mlp.fc2.weight)
    assert target(torch.randn(2, 3, 20, 8)).shape == (2, 3)


def test_positions_are_resampled_as_the_new_model_says() -> None:
    target = fresh(image_size=24, position_resample="mae")
    source = trained()
    transfer_weights(source, target, classes=CLASSES)
    expected = trained(replace(CONFIG, position_resample="mae")).positions.resampled(source.pos_embed, (6, 6))
    assert torch.equal(target.pos_embed, expected)
    assert not torch.equal(target.pos_embed, source.positions.resampled(source.pos_embed, (6, 6)))


def test_the_trained_model_is_not_modified():
    source = trained()
    before = {name: tensor.clone() for name, tensor in source.state_dict().items()}
    target = fresh(image_size=24, num_classes=3)
    transfer_weights(source, target, classes=CLASSES)
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.zero_()
    assert all(torch.equal(before[name], tensor) for name, tensor in source.state_dict().items())


def test_larger_patches_of_an_enlarged_image_give_the_same_tokens() -> None:
    """Compares the patch embedding alone, without positions."""
    source, target = trained(), fresh(image_size=24, patch_size=8)
    assert transfer_weights(source, target, classes=CLASSES) == [
        "head kept: the classes are the same",
        "patch embedding resized from 4x4 to 8x8 pixels",
    ]
    images = torch.randn(2, 3, 12, 12)
    patches = images.reshape(2, 3, 3, 4, 3, 4).transpose(3, 4).reshape(-1, 3, 4, 4)
    enlarged = F.interpolate(patches, size=(8, 8), mode="bilinear", antialias=True)
    tokens = F.conv2d(enlarged, target.patch_embed.proj.weight)
    torch.testing.assert_close(tokens, F.conv2d(patches, source.patch_embed.proj.weight), rtol=1e-4, atol=1e-4)


def test_a_grey_image_gives_the_same_logits_as_three_equal_channels() -> None:
    source, target = trained(), fresh(channels=1)
    assert transfer_weights(source, target, classes=CLASSES) == [
        "head kept: the classes are the same",
        "input channels adapted from 3 to 1",
    ]
    grey = torch.randn(2, 1, 12, 12)
    torch.testing.assert_close(target(grey), source(grey.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("position", "injection"),
    [
        ("none", "stem"),
        ("learned_1d", "every_layer"),
        ("learned_2d", "every_layer_shared"),
        ("factorized_2d", "stem"),
        ("relative", "stem"),
        ("sincos_2d", "stem"),
        ("rope", "stem"),
    ],
)
def test_every_kind_of_position_is_resampled_as_in_forward(position: str, injection: str) -> None:
    config = replace(CONFIG, position=position, position_injection=injection)
    source, target = trained(config), ViT(replace(config, image_size=(20, 8), channels=1)).eval()
    transfer_weights(source, target, classes=CLASSES)
    grey = torch.randn(2, 1, 20, 8)
    torch.testing.assert_close(target(grey), source(grey.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)


def test_a_hybrid_is_adapted_to_grey_images_and_other_patches() -> None:
    hybrid = dict(image_size=32, patch_size=8, stem_stages=(1,), stem_width=32)
    source = trained(replace(CONFIG, **hybrid))
    target = fresh(**{**hybrid, "patch_size": 4, "channels": 1})
    assert transfer_weights(source, target, classes=CLASSES)[1:] == [
        "input channels adapted from 3 to 1",
        "patch embedding resized from 8x8 to 4x4 pixels",
        "positions interpolated from 4x4 to 8x8 patches",
    ]
    assert target(torch.randn(2, 1, 32, 32)).shape == (2, 3)


def test_a_resnet_is_adapted_to_other_classes_and_channels() -> None:
    config = ResNetConfig(image_size=32, stages=(1, 1), root_width=32, num_classes=3)
    source, target = ResNet(config), ResNet(replace(config, channels=1, num_classes=2, image_size=64))
    assert transfer_weights(source, target, classes=("a", "b")) == [
        "new zero head for 2 classes",
        "input channels adapted from 3 to 1",
    ]
    torch.testing.assert_close(target.stem.conv.weight, source.stem.conv.weight.sum(1, keepdim=True))
    assert torch.equal(target.stages[1].blocks[0].conv2.weight, source.stages[1].blocks[0].conv2.weight)


def test_another_model_family_is_refused() -> None:
    config = ResNetConfig(image_size=32, stages=(1,), root_width=32, num_classes=3)
    with pytest.raises(ValueError, match=r"the trained model is a ViT, not a ResNet: .*--model\.name"):
        transfer_weights(trained(), ResNet(config), classes=CLASSES)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"width": 32}, "its width is 16, not 32"),
        ({"depth": 3}, "its depth is 2, not 3"),
        ({"num_heads": 4}, "its num_heads is 2, not 4"),
        ({"gelu": "erf"}, "its gelu is tanh, not erf"),
        ({"pool": "gap"}, "its pool is cls, not gap"),
        ({"num_registers": 1}, "its num_registers is 0, not 1"),
        ({"position": "none"}, "its position is learned_1d, not none"),
    ],
)
def test_another_architecture_is_refused(changes, reason):
    target = fresh(**changes)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(ValueError, match=f"^the trained model has another architecture: {reason}; only") as caught:
        transfer_weights(trained(), target, classes=CLASSES)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in target.state_dict().items())
