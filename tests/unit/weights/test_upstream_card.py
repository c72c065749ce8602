"""Preprocessing and class names are read from upstream configuration files."""

import json
from pathlib import Path
from typing import Any

import pytest
import torchvision
import transformers
from safetensors.torch import save_file

from models import small_model
from vitral.errors import UserError
from vitral.vit_config import ViTConfig
from vitral.weights.class_names.imagenet import imagenet_aliases, imagenet_classes
from vitral.weights.config_keys import unknown_keys
from vitral.weights.lineages.registry import LINEAGES
from vitral.weights.load import load
from vitral.weights.upstream_card import upstream_card
from vitral.weights.write import upstream_state_dict


def card(lineage: str = "timm", *, channels: int = 3, num_classes: int = 2, **upstream_config: Any):
    config = ViTConfig(image_size=32, width=64, num_heads=1, channels=channels, num_classes=num_classes)
    return upstream_card(config, LINEAGES[lineage], upstream_config, origin="x.npz")[0]


def test_pretrained_cfg_of_timm_is_used() -> None:
    pretrained_cfg = dict(mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6], crop_pct=0.9, interpolation="bicubic")
    preprocessing = card(pretrained_cfg=pretrained_cfg).preprocessing
    assert (preprocessing.mean, preprocessing.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (preprocessing.resize, preprocessing.crop_ratio, preprocessing.interpolation) == ("crop", 0.9, "bicubic")


def test_defaults_of_the_format_without_configuration() -> None:
    assert card("google").preprocessing.mean == (0.5, 0.5, 0.5)
    assert card("torchvision").preprocessing.std == (0.229, 0.224, 0.225)
    assert card("torchvision", channels=1).preprocessing.mean == pytest.approx(((0.485 + 0.456 + 0.406) / 3,))
    assert card().classes == ("class 0", "class 1")
    assert card().provenance == {"weights": "x.npz", "lineage": "timm"}


def test_a_thousand_classes_get_imagenet_names() -> None:
    classes = card(num_classes=1000).classes
    assert (classes[0], classes[207], classes[999]) == ("tench", "golden retriever", "toilet tissue")
    assert list(classes) == torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1.meta["categories"]


def test_21843_classes_get_imagenet_21k_names() -> None:
    classes = card("google", num_classes=21843).classes
    assert len(set(classes)) == 21843
    assert (classes[0], classes[-1]) == ("organism", "knothole")


def test_imagenet_identifiers_are_replaced_by_names() -> None:
    names = imagenet_classes(1000)
    assert names is not None
    reversed_identifiers = [*imagenet_aliases(names)][::-1]
    assert card(num_classes=1000, label_names=reversed_identifiers).classes == names[::-1]
    assert card(label_names=["cat", "dog"]).classes == ("cat", "dog")


def test_a_transformers_folder_gives_architecture_preprocessing_and_names(tmp_path: Path) -> None:
    labels = {0: "cat", 1: "dog"}
    peer = transformers.ViTForImageClassification(
        transformers.ViTConfig(
            image_size=32, patch_size=8, hidden_size=48, num_hidden_layers=1, num_attention_heads=4,
            intermediate_size=64, id2label=labels, hidden_act="gelu_new", layer_norm_eps=1e-6,
        )
    )  # fmt: skip
    peer.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1], "resample": 3})
    )
    model = load(tmp_path)
    assert model.card is not None
    assert model.card.classes == ("cat", "dog")
    assert (model.config.num_heads, model.config.gelu, model.config.norm_eps) == (4, "tanh", 1e-6)
    assert (model.card.preprocessing.mean, model.card.preprocessing.interpolation) == ((0.1, 0.2, 0.3), "bicubic")


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(ValueError, match=r"has no weights: .*model\.safetensors"):
        load(tmp_path)


def test_a_damaged_preprocessor_config_is_named(tmp_path: Path) -> None:
    tensors, _ = upstream_state_dict(LINEAGES["timm"], small_model(image_size=16))
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"num_heads": 3}))
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"preprocessor_config\.json is not JSON"):
        load(tmp_path)


def card_and_notes(lineage: str = "transformers", **upstream_config: Any):
    config = ViTConfig(image_size=32, width=64, num_heads=1, num_classes=2)
    return upstream_card(config, LINEAGES[lineage], upstream_config, origin="x.npz")


@pytest.mark.parametrize(
    ("values", "mean", "std"),
    [
        ({"do_normalize": False}, 0.0, 1.0),
        ({"do_rescale": False, "image_mean": [51.0] * 3, "image_std": [255.0] * 3}, 0.2, 1.0),
        ({"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}, 0.5, 0.5),
        ({"image_mean": 0.25, "image_std": 0.5}, 0.25, 0.5),
        ({"do_rescale": False, "do_normalize": False}, 0.0, 1 / 255),
    ],
)
def test_what_a_processor_does_to_pixels_is_kept(values: dict[str, Any], mean: float, std: float) -> None:
    card, notes = card_and_notes(**values)
    assert notes == []
    assert card.preprocessing.mean == pytest.approx([mean] * len(card.preprocessing.mean))
    assert card.preprocessing.std == pytest.approx([std] * len(card.preprocessing.std))


HW = {"height": 32, "width": 32}


@pytest.mark.parametrize(
    ("values", "resize", "ratio", "note"),
    [
        ({"size": 32}, "squash", None, ""),
        ({"size": HW}, "squash", None, ""),
        ({"size": 64, "do_center_crop": True, "crop_size": 32}, "crop", 0.5, ""),
        ({"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": HW}, "crop", 0.8, ""),
        ({"size": {"shortest_edge": 32}}, "crop", 1.0, "does not crop"),
        ({"size": {"height": 40, "width": 40}, "do_center_crop": True, "crop_size": 32}, "squash_crop", 0.8, ""),
        ({"size": {"longest_edge": 32}}, "squash", None, "longest_edge"),
        ({"size": 64}, "squash", None, "images of 64x64 pixels, the model takes 32x32"),
        ({"do_resize": False}, "squash", None, "do_resize false"),
    ],
)  # fmt: skip
def test_every_form_of_size_and_crop_is_read(values: dict[str, Any], resize: str, ratio: float, note: str) -> None:
    card, notes = card_and_notes(**values)
    assert card.preprocessing.resize == resize
    if ratio is not None:
        assert card.preprocessing.crop_ratio == pytest.approx(ratio)
    assert len(notes) == bool(note)
    assert note in " ".join(notes)


@pytest.mark.parametrize(("number", "name"), [(0, "nearest"), (4, "box"), (5, "hamming")])
def test_filters_that_vitral_lacks_are_noted(number: int, name: str) -> None:
    card, notes = card_and_notes(resample=number)
    assert card.preprocessing.interpolation == "bilinear"
    assert len(notes) == 1
    assert f"filter {name}" in notes[0]


def test_defaults_of_a_processor_are_those_of_its_class() -> None:
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 32, "width": 32})
    stated = {key: value for key, value in processor.to_dict().items() if key in ("size", "crop_size")}
    card, notes = card_and_notes("clip", image_processor_type="CLIPImageProcessor", **stated)
    assert notes == []
    assert (card.preprocessing.interpolation, card.preprocessing.resize) == ("bicubic", "crop")
    assert card.preprocessing.crop_ratio == 0.5


@pytest.mark.parametrize(
    ("pretrained_cfg", "resize", "note"),
    [
        ({}, "crop", ""),
        ({"crop_mode": "border"}, "crop", "crop_mode border"),
        ({"interpolation": "random"}, "crop", "filter random"),
        ({"crop_mode": "squash", "crop_pct": 1.0}, "squash", ""),
        ({"crop_mode": "squash", "crop_pct": 0.875}, "squash_crop", ""),
    ],
)
def test_timm_s_modes_are_read_or_noted(pretrained_cfg: dict[str, Any], resize: str, note: str) -> None:
    card, notes = card_and_notes("timm", pretrained_cfg=pretrained_cfg)
    assert (card.preprocessing.resize, card.preprocessing.crop_ratio) == (resize, 0.875)
    assert len(notes) == bool(note)
    assert note in " ".join(notes)


def test_older_configurations_of_timm_state_preprocessing_beside_the_architecture() -> None:
    stated: dict[str, Any] = dict(mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6], crop_pct=0.8, interpolation="bilinear")
    named = card("timm", architecture="vit_base_patch16_224", labels=["cat", "dog"], **stated)
    assert named.preprocessing.mean == (0.1, 0.2, 0.3)
    assert named.preprocessing.std == (0.4, 0.5, 0.6)
    assert (named.preprocessing.crop_ratio, named.preprocessing.interpolation) == (0.8, "bilinear")
    assert named.classes == ("cat", "dog")


def test_preprocess_cfg_of_open_clip_is_used() -> None:
    stated = dict(size=[32, 32], mode="RGB", mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6], interpolation="bilinear")
    card, notes = card_and_notes("open_clip", preprocess_cfg=stated)
    assert notes == []
    assert (card.preprocessing.mean, card.preprocessing.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (card.preprocessing.resize, card.preprocessing.crop_ratio) == ("crop", 1.0)
    assert card.preprocessing.interpolation == "bilinear"
    card, notes = card_and_notes("open_clip", preprocess_cfg={"resize_mode": "squash"})
    assert (notes, card.preprocessing.resize, card.preprocessing.interpolation) == ([], "squash", "bicubic")


@pytest.mark.parametrize(
    ("lineage", "name"),
    [
        *(
            ("transformers", name)
            for name in ("ViTConfig", "DeiTConfig", "ViTMAEConfig", "ViTMSNConfig", "IJepaConfig")
        ),
        *(("dinov2", name) for name in ("Dinov2Config", "Dinov2WithRegistersConfig")),
        ("dinov3", "DINOv3ViTConfig"),
        *(("siglip", name) for name in ("SiglipVisionConfig", "Siglip2VisionConfig")),
        ("clip", "CLIPVisionConfig"),
    ],
)
def test_every_key_of_transformers_configurations_is_known(lineage: str, name: str) -> None:
    stated = getattr(transformers, name)().to_dict()
    assert len(stated) > 20
    assert unknown_keys(LINEAGES[lineage], stated) == []
    assert unknown_keys(LINEAGES[lineage], {**stated, "new_key": 1}) == ["new_key"]


@pytest.mark.parametrize(
    "values",
    [
        {"rescale_factor": "1/255"},
        {"rescale_factor": 0},
        {"rescale_factor": -1},
        {"image_std": [0.0, 0.0, 0.0]},
        {"image_mean": ["a", "b", "c"]},
        {"pretrained_cfg": {"crop_pct": "all"}},
    ],
)
def test_unreadable_preprocessing_is_refused_in_one_sentence(values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="preprocessing that its configuration states cannot be read") as caught:
        card_and_notes(**values)
    assert "\n" not in str(caught.value)
