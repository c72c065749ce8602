"""Fine-tuning starts from the trained features, a zero head and interpolated positions."""

from dataclasses import replace

import pytest
import torch

from vitral.data.card import ModelCard
from vitral.data.preprocess import Preprocessing
from vitral.vit import ViT, ViTConfig
from vitral.weights.positions import resample_positions
from vitral.weights.transfer import transfer

CONFIG = ViTConfig(image_size=12, patch_size=4, width=16, depth=2, num_heads=2, mlp_dim=32, num_classes=3)
CLASSES = ("a", "b", "c")


def trained(config: ViTConfig = CONFIG) -> ViT:
    """A model whose every weight is random, the head's too."""
    model = ViT(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    preprocessing = Preprocessing(image_size=config.image_hw, channels=3)
    model.card = ModelCard(preprocessing=preprocessing, classes=CLASSES)
    return model


def fresh(**changes) -> ViT:
    return ViT(replace(CONFIG, **changes)).eval()


def test_other_classes_begin_with_a_zero_head_and_the_same_features():
    source, target = trained(), fresh(num_classes=5)
    assert transfer(source, target, classes=("v", "w", "x", "y", "z")) == ["new zero head for 5 classes"]
    images = torch.randn(4, 3, 12, 12)
    assert torch.equal(target(images), torch.zeros(4, 5))
    assert torch.equal(target.features(images).pooled, source.features(images).pooled)


def test_the_same_classes_keep_the_head():
    source, target = trained(), fresh(dropout=0.1)
    assert transfer(source, target, classes=CLASSES) == ["head kept: the classes are the same"]
    images = torch.randn(4, 3, 12, 12)
    assert torch.equal(target(images), source(images))


@pytest.mark.parametrize("classes", [("b", "a", "c"), ("a", "b", "d")])
def test_other_names_are_other_classes(classes):
    target = fresh()
    assert transfer(trained(), target, classes=classes) == ["new zero head for 3 classes"]
    assert not target.head.weight.any()


def test_a_model_without_class_names_gives_no_head():
    source = trained()
    source.card = None
    assert transfer(source, fresh(), classes=CLASSES) == ["new zero head for 3 classes"]


@pytest.mark.parametrize(("before", "after"), [(16, None), (None, 16), (8, 16)])
def test_another_representation_layer_is_another_head(before, after):
    """Also where it is as wide as the tokens, so that the heads alone have the same shape."""
    source, target = trained(replace(CONFIG, representation_size=before)), fresh(representation_size=after)
    assert transfer(source, target, classes=CLASSES) == ["new zero head for 3 classes"]
    assert not target(torch.randn(2, 3, 12, 12)).any()


@pytest.mark.parametrize("pool", ["cls", "gap"])
def test_another_resolution_interpolates_positions(pool):
    source = trained(replace(CONFIG, pool=pool))
    target = fresh(image_size=(20, 8), pool=pool)
    assert transfer(source, target, classes=CLASSES) == [
        "head kept: the classes are the same",
        "positions interpolated from 3x3 to 5x2 patches",
    ]
    expected = resample_positions(source.pos_embed.detach(), source=(3, 3), target=(5, 2))
    assert torch.equal(target.pos_embed, expected)
    assert torch.equal(target.blocks[1].mlp.fc2.weight, source.blocks[1].mlp.fc2.weight)
    assert target(torch.randn(2, 3, 20, 8)).shape == (2, 3)


def test_the_trained_model_stays_as_it_is():
    source = trained()
    before = {name: tensor.clone() for name, tensor in source.state_dict().items()}
    target = fresh(image_size=24, num_classes=3)
    transfer(source, target, classes=CLASSES)
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.zero_()
    assert all(torch.equal(before[name], tensor) for name, tensor in source.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"width": 32}, "its width is 16, not 32"),
        ({"depth": 3}, "its depth is 2, not 3"),
        ({"num_heads": 4}, "its num_heads is 2, not 4"),
        ({"patch_size": 2}, "its patch_size is 4, not 2"),
        ({"gelu": "erf"}, "its gelu is tanh, not erf"),
        ({"pool": "gap"}, "its pool is cls, not gap"),
        ({"channels": 1}, "its channels is 3, not 1"),
        ({"position": "none"}, "its position is learned_1d, not none"),
    ],
)
def test_another_architecture_is_refused(changes, reason):
    target = fresh(**changes)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(ValueError, match=f"^the trained model has another architecture: {reason}; only") as caught:
        transfer(trained(), target, classes=CLASSES)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in target.state_dict().items())
