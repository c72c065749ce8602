"""Methods under the names of timm, transformers and DINOv2, and the entry points of torch.hub."""

import sys
from pathlib import Path

import pytest
import torch

import vitral
from contracts.project import ROOT
from models import small_model
from vitral.errors import UserError
from vitral.models import build
from vitral.resnet import ResNet, ResNetConfig
from vitral.vit import ViT
from vitral.weights.adapt import adapt_model
from vitral.weights.save import save_as


def test_a_saved_model_is_loaded_by_its_class(tmp_path: Path) -> None:
    model, images = small_model(), torch.rand(2, 3, 16, 24)
    model.save_pretrained(tmp_path / "saved")
    loaded = ViT.from_pretrained(tmp_path / "saved")
    assert torch.equal(loaded(images), model(images))
    assert loaded.card == model.card
    assert torch.equal(vitral.load(tmp_path / "saved")(images), model(images))
    other = ViT.from_pretrained(str(tmp_path / "saved"), num_classes=7)
    assert other.config.num_classes == 7


def test_a_model_of_another_family_is_refused(tmp_path: Path) -> None:
    small_model().save_pretrained(tmp_path / "saved")
    with pytest.raises(UserError, match=r"is a ViT, not a ResNet: load it with vitral\.load"):
        ResNet.from_pretrained(tmp_path / "saved")
    with pytest.raises(UserError, match="is not on the Hub, so it has no revision main"):
        ViT.from_pretrained(tmp_path / "saved", revision="main")


def test_a_model_without_a_card_is_not_saved(tmp_path: Path) -> None:
    model = small_model()
    model.card = None
    with pytest.raises(UserError, match="the model has no card"):
        model.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize("changes", [{}, {"representation_size": 5}, {"distillation": True}, {"head_bias": None}])
def test_a_new_classifier_is_zero_and_can_be_saved(changes: dict, tmp_path: Path) -> None:
    model, images = small_model(**changes), torch.rand(2, 3, 16, 24)
    before = model.features(images).pooled
    model.reset_classifier(7)
    assert torch.equal(model(images), torch.zeros(2, 7))
    assert torch.equal(model.features(images).pooled, before)
    model.save_pretrained(tmp_path / "saved")
    loaded = vitral.load(tmp_path / "saved")
    assert loaded.config == model.config
    assert loaded.card is not None
    assert loaded.card.classes == tuple(f"class {label}" for label in range(7))
    with pytest.raises(UserError, match="num_classes must be 0 for no head, or a number of classes, not -1"):
        model.reset_classifier(-1)


@pytest.mark.parametrize("changes", [{}, {"representation_size": 5}, {"distillation": True}, {"pool": "gap"}])
def test_a_model_without_a_head_is_saved_once_it_has_one_again(changes: dict, tmp_path: Path) -> None:
    model, images = small_model(**changes), torch.rand(2, 3, 16, 24)
    model.reset_classifier(0)
    pooled = model.features(images).pooled
    torch.testing.assert_close(model(images), pooled.mean(dim=1) if pooled.ndim == 3 else pooled)
    assert model.card is not None
    assert model.card.classes == ()
    with pytest.raises(UserError, match=r"has no head to save: model\.reset_classifier"):
        model.save_pretrained(tmp_path / "saved")
    with pytest.raises(UserError, match="has no head to save"):
        save_as(model, tmp_path / "saved.safetensors", "timm")
    assert not list(tmp_path.iterdir())
    model.reset_classifier(3)
    model.save_pretrained(tmp_path / "saved")
    assert torch.equal(vitral.load(tmp_path / "saved")(images), torch.zeros(2, 3))


def test_a_resnet_has_the_methods_that_fit_it(tmp_path: Path) -> None:
    model = build(ResNetConfig(image_size=32, stages=(1,), root_width=32, num_classes=3))
    model.reset_classifier(2)
    assert torch.equal(model.eval()(torch.rand(1, 3, 32, 32)), torch.zeros(1, 2))
    model.card = small_model(image_size=32, num_classes=2).card
    model.save_pretrained(tmp_path / "saved")
    assert ResNet.from_pretrained(tmp_path / "saved").config == model.config


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (dict(indices=3), "the model has 2 blocks: ask for 1 to 2, not 3"),
        (dict(indices=[2]), "the model has 2 blocks, numbered from 0: there is no 2"),
        (dict(output_fmt="NHWC"), "output_fmt must be NCHW or NLC, not 'NHWC'"),
        (dict(stop_early=True), "stop_early skips the last blocks"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        small_model().forward_intermediates(torch.rand(1, 3, 16, 24), **arguments)


def test_blocks_after_the_last_output_are_skipped() -> None:
    model, images = small_model(), torch.rand(1, 3, 16, 24)
    expected = model.forward_intermediates(images, [0], intermediates_only=True)
    model.blocks[1] = torch.nn.Module()  # it has no forward
    (found,) = model.forward_intermediates(images, [0], intermediates_only=True, stop_early=True)
    assert torch.equal(found, expected[0])


def test_layers_with_their_class_tokens() -> None:
    model, images = small_model(num_registers=2), torch.rand(1, 3, 16, 24)
    ((patches, cls),) = model.get_intermediate_layers(images, return_class_token=True)
    features = model.features(images)
    torch.testing.assert_close(patches, features.patches)
    torch.testing.assert_close(cls, features.cls)
    ((_, both),) = small_model(pool="cls_gap").get_intermediate_layers(images, return_class_token=True)
    assert both.shape == cls.shape
    ((maps, prefix),) = model.get_intermediate_layers(images, [1], reshape=True, return_prefix_tokens=True)
    assert (tuple(maps.shape), tuple(prefix.shape)) == ((1, 12, 2, 3), (1, 3, 12))
    with pytest.raises(UserError, match="exclude each other"):
        model.get_intermediate_layers(images, return_class_token=True, return_prefix_tokens=True)
    with pytest.raises(UserError, match="this model has no class token to return: it has pool gap"):
        small_model(pool="gap").get_intermediate_layers(images, return_class_token=True)


POOLS = [{}, {"pool": "gap", "pooled_norm": True}, {"pool": "map"}, {"pool": "cls_gap"}, {"distillation": True}]


@pytest.mark.parametrize("changes", POOLS)
def test_a_new_head_fits_what_is_pooled(changes: dict) -> None:
    model, images = small_model(**changes), torch.rand(2, 3, 16, 24)
    model.reset_classifier(5)
    assert model(images).shape == (2, 5)
    with pytest.raises(UserError, match="leave out global_pool"):
        model.reset_classifier(5, "avgmax")


@pytest.mark.parametrize("changes", POOLS)
def test_features_and_head_give_the_logits(changes: dict) -> None:
    model, images = small_model(**changes), torch.rand(2, 3, 16, 24)
    tokens = model.forward_features(images)
    torch.testing.assert_close(model.forward_head(tokens), model(images))
    torch.testing.assert_close(model.forward_head(tokens, pre_logits=True), model.features(images).pooled)


POSITIONS = ["learned_1d", "learned_2d", "factorized_2d", "relative"]


@pytest.mark.parametrize("position", POSITIONS)
def test_positions_are_not_interpolated_twice(position: str, tmp_path: Path) -> None:
    source = small_model(position=position)
    third = torch.rand(1, 3, 24, 24)
    assert source(third).isfinite().all()
    model, _ = adapt_model(source, image_size=32)
    assert model(torch.rand(1, 3, 32, 32)).isfinite().all()
    with pytest.raises(UserError) as caught:
        model(third)
    sentence = str(caught.value)
    assert all(part in sentence for part in ("2x3", "4x4", "3x3", "without image_size"))
    assert "\n" not in sentence
    with pytest.raises(UserError, match="interpolated from 2x3 to 4x4"):
        adapt_model(model, image_size=24)
    model.save_pretrained(tmp_path / "saved")
    torch.testing.assert_close(model(third), vitral.load(tmp_path / "saved")(third))


def test_training_makes_interpolated_positions_the_models_own() -> None:
    model, _ = adapt_model(small_model(), image_size=32)
    model.eval()
    with pytest.raises(UserError, match="interpolated"):
        model(torch.rand(1, 3, 24, 24))
    model.train()
    assert model.eval()(torch.rand(1, 3, 24, 24)).isfinite().all()


@pytest.mark.parametrize("position", ["sincos_2d", "rope", "none"])
def test_computed_positions_fit_any_size(position: str) -> None:
    model, _ = adapt_model(small_model(position=position), image_size=32)
    assert model(torch.rand(1, 3, 24, 24)).isfinite().all()


def test_torch_hub_finds_the_entry_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    small_model().save_pretrained(tmp_path / "saved")
    loaded = torch.hub.load(str(ROOT), "pretrained", str(tmp_path / "saved"), source="local", num_classes=4)
    assert loaded.config.num_classes == 4
    created = torch.hub.load(str(ROOT), "create", "ViT-mu/16", source="local", num_classes=2)
    assert isinstance(created, ViT)
