"""Folders and files that Vitral writes are loaded by timm, transformers and torchvision, with the same outputs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
from timm.data import create_transform, resolve_model_data_config

from models import small_model
from vitral.data.images.preprocess import Preprocessing
from vitral.recipes.digits import digits
from vitral.vit import ViT
from vitral.vit_config import ViTConfig
from vitral.weights.lineages.registry import LINEAGES
from vitral.weights.load import load
from vitral.weights.save import save_as
from vitral.weights.upstream_model import UpstreamModel, load_upstream_model
from vitral.weights.write import upstream_state_dict

PREPROCESSING = Preprocessing(
    image_size=(16, 16), channels=3, resize="crop", crop_ratio=0.5, interpolation="bicubic", mean=(0.1, 0.2, 0.3)
)
DINO: dict[str, Any] = dict(layer_scale=0.5, gelu="erf")


def model_with_card(**changes: Any) -> ViT:
    model = small_model(image_size=changes.pop("image_size", 16), **changes)
    assert model.card is not None
    preprocessing = PREPROCESSING.with_input(image_size=model.config.image_hw, channels=model.config.channels)
    model.card = replace(model.card, preprocessing=preprocessing, classes=("cat", "dog", "owl"))
    return model


def numeric(notes: list[str]) -> list[str]:
    """Notes on numbers that the other project computes differently at the model's own image size."""
    return [note for note in notes if not note.startswith(("at other image sizes than", "the head is left out"))]


def images(model: ViT) -> torch.Tensor:
    return torch.rand(2, model.config.channels, *model.config.image_hw) * 2 - 1


def assert_loads_unchanged(folder: Path, model: ViT) -> None:
    """Vitral reads the folder with the same architecture, preprocessing and weights."""
    loaded = load(folder)
    assert isinstance(loaded, ViT)
    assert replace(loaded.config, position_resample="google") == replace(
        model.config, layer_scale=loaded.config.layer_scale
    )
    assert loaded.card is not None
    assert model.card is not None
    assert loaded.card.preprocessing.resize == model.card.preprocessing.resize
    assert loaded.card.preprocessing.crop_ratio == pytest.approx(model.card.preprocessing.crop_ratio, rel=0.05)
    assert loaded.card.preprocessing.interpolation == model.card.preprocessing.interpolation
    assert loaded.card.preprocessing.mean == model.card.preprocessing.mean
    torch.testing.assert_close(loaded(batch := images(model)), model(batch), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="tanh GELU"),
        pytest.param({"gelu": "erf", "pool": "gap"}, id="mean"),
        pytest.param({"pool": "map", "channels": 1}, id="attention pooling, grey"),
        pytest.param({"num_registers": 2, "layer_scale": 0.5, "qk_norm": True}, id="registers"),
        pytest.param({"image_size": (16, 24)}, id="wide"),
        pytest.param({"mlp": "swiglu", "gelu": "erf"}, id="gated"),
        pytest.param({"pool": "gap", "pooled_norm": True, "qkv_bias": False}, id="normed after pooling"),
        pytest.param({"distillation": True}, id="distilled"),
        pytest.param({"pre_norm": True, "patch_bias": False, "norm_eps": 1e-5, "gelu": "quick"}, id="CLIP"),
    ],
)
def test_timm_loads_the_folder(changes: dict[str, Any], tmp_path: Path) -> None:
    model = model_with_card(**changes)
    assert numeric(save_as(model, tmp_path / "converted", "timm")) == []
    peer = timm.create_model(f"local-dir:{tmp_path / 'converted'}", pretrained=True).eval()
    torch.testing.assert_close(peer(batch := images(model)), model(batch), rtol=0, atol=1e-4)
    assert peer.pretrained_cfg["label_names"] == ["cat", "dog", "owl"]
    data_config = resolve_model_data_config(peer)
    assert model.card is not None
    assert list(data_config["mean"]) == list(model.card.preprocessing.mean)
    assert (data_config["crop_pct"], data_config["crop_mode"], data_config["interpolation"]) == (
        0.5,
        "center",
        "bicubic",
    )
    assert create_transform(**data_config) is not None
    assert_loads_unchanged(tmp_path / "converted", model)


@pytest.mark.parametrize("changes", [{}, {"gelu": "erf", "norm_eps": 1e-12}, {"image_size": (16, 24), "channels": 1}])
def test_transformers_loads_the_folder(changes: dict[str, Any], tmp_path: Path) -> None:
    model = model_with_card(**changes)
    assert numeric(save_as(model, tmp_path / "converted", "transformers")) == []
    peer, info = transformers.ViTForImageClassification.from_pretrained(
        tmp_path / "converted", output_loading_info=True
    )
    assert not any(info.values()), info
    torch.testing.assert_close(peer(batch := images(model)).logits, model(batch), rtol=0, atol=1e-4)
    assert peer.config.id2label == {0: "cat", 1: "dog", 2: "owl"}


def test_transformers_loads_the_image_processor(tmp_path: Path) -> None:
    model = model_with_card()
    save_as(model, tmp_path / "converted", "transformers")
    assert_loads_unchanged(tmp_path / "converted", model)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "converted")
    pixels = torch.randint(256, (3, 32, 48), dtype=torch.uint8)
    batch = processor(pixels, return_tensors="pt")["pixel_values"]
    assert batch.shape == (1, 3, 16, 16)
    middle = (pixels[:, 8:24, 16:32] / 255 - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / 0.5
    torch.testing.assert_close(batch[0], middle, rtol=0, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"num_registers": 2}, {"mlp": "swiglu", "mlp_dim": 32, "num_registers": 1}])
def test_transformers_loads_dinov2(changes: dict[str, Any], tmp_path: Path) -> None:
    model = model_with_card(**DINO, **changes)
    assert numeric(save_as(model, tmp_path / "converted", "dinov2")) == []
    peer, info = transformers.AutoModel.from_pretrained(tmp_path / "converted", output_loading_info=True)
    assert info["missing_keys"] <= {"embeddings.mask_token"}
    assert not info["unexpected_keys"]
    features = model.features(batch := images(model)).pooled
    torch.testing.assert_close(peer(batch).pooler_output, features, rtol=0, atol=1e-4)


TOWERS: dict[str, dict[str, Any]] = {
    "clip": dict(pre_norm=True, patch_bias=False, gelu="quick", norm_eps=1e-5, head_bias=None),
    "siglip": dict(pool="map"),
    "dinov3": dict(position="rope", num_registers=2, layer_scale=0.5, gelu="erf", norm_eps=1e-5),
    "transformers": dict(distillation=True),
}


@pytest.mark.parametrize("format", TOWERS)
def test_transformers_loads_other_model_classes(format: str, tmp_path: Path) -> None:
    model = model_with_card(**TOWERS[format])
    for name, parameter in model.named_parameters():
        if format == "dinov3" and name.endswith("qkv.bias"):
            parameter.data.view(3, -1)[1] = 0  # DINOv3 has no key bias
    assert numeric(save_as(model, tmp_path / "converted", format)) == []
    model_class = getattr(
        transformers, transformers.AutoConfig.from_pretrained(tmp_path / "converted").architectures[0]
    )
    peer, info = model_class.from_pretrained(tmp_path / "converted", output_loading_info=True)
    assert info["missing_keys"] <= {"embeddings.mask_token"}
    assert not info["unexpected_keys"]
    output = peer(batch := images(model))
    pooled = model.features(batch).pooled
    output_name = {"clip": "image_embeds", "transformers": "logits"}.get(format, "pooler_output")
    expected = pooled if output_name == "pooler_output" else model.classify(pooled)
    torch.testing.assert_close(getattr(output, output_name), expected, rtol=0, atol=1e-4)
    upstream = load_upstream_model(format, tmp_path / "converted" / "model.safetensors", model.config)
    assert isinstance(upstream, UpstreamModel), upstream
    torch.testing.assert_close(upstream.forward(batch), expected, rtol=0, atol=1e-4)


CLASSIFIERS: dict[str, tuple[str, dict[str, Any]]] = {
    "IJepaForImageClassification": ("transformers", dict(pool="gap", qkv_bias=False)),
    "DeiTForImageClassification": ("transformers", dict(num_registers=1)),
    "Dinov2ForImageClassification": ("dinov2", dict(**DINO, pool="cls_gap")),
    "Dinov2WithRegistersForImageClassification": (
        "dinov2",
        dict(**DINO, pool="cls_gap", num_registers=2, position_resample="timm"),
    ),
}


@pytest.mark.parametrize("class_name", CLASSIFIERS)
def test_transformers_loads_other_classifiers(class_name: str, tmp_path: Path) -> None:
    format, changes = CLASSIFIERS[class_name]
    model = model_with_card(**{"position_resample": "huggingface", **changes})
    assert save_as(model, tmp_path / "converted", format) == []
    peer, info = transformers.AutoModelForImageClassification.from_pretrained(
        tmp_path / "converted", output_loading_info=True
    )
    assert type(peer).__name__ == class_name
    assert all(name.endswith("mask_token") for name in info["missing_keys"])
    assert not info["unexpected_keys"]
    assert peer.config.id2label == {0: "cat", 1: "dog", 2: "owl"}
    torch.testing.assert_close(peer(batch := images(model)).logits, model(batch), rtol=0, atol=1e-4)
    upstream = load_upstream_model(format, tmp_path / "converted" / "model.safetensors", model.config)
    assert isinstance(upstream, UpstreamModel), upstream
    assert upstream.output == "logits"
    torch.testing.assert_close(upstream.forward(batch), model(batch), rtol=0, atol=1e-4)
    loaded = load(tmp_path / "converted")
    assert isinstance(loaded, ViT)
    assert loaded.config == replace(model.config, layer_scale=loaded.config.layer_scale)


def test_the_model_of_the_digits_demo_goes_to_transformers(tmp_path: Path) -> None:
    architecture = digits().model.architecture
    assert isinstance(architecture, ViTConfig)
    model = small_model(architecture, position_resample="huggingface")
    assert save_as(model, tmp_path / "converted", "transformers") == []
    peer = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "converted")
    torch.testing.assert_close(peer(batch := images(model)).logits, model(batch), rtol=0, atol=1e-4)
    loaded = load(tmp_path / "converted")
    torch.testing.assert_close(loaded(batch), model(batch), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("format", "changes", "property"),
    [
        ("transformers", {"pool": "map"}, "which pools by attention; these can: vitral and timm"),
        ("transformers", {"pool": "cls_gap"}, "which reads class token and mean side by side"),
        ("transformers", {"num_registers": 3}, "which has 3 registers"),
        ("transformers", {"num_registers": 1, "pool": "gap"}, "a register only beside a class token"),
        ("transformers", {"num_registers": 1, "distillation": True}, "a register only beside a class token"),
        ("transformers", {"qk_norm": True}, "which has QK-norm"),
        ("transformers", {"mlp": "swiglu"}, "which has gated MLPs"),
        ("transformers", {"position": "sincos_2d"}, "which has sine-cosine positions"),
        ("dinov2", {**DINO, "pool": "gap"}, "which pools the mean of its patches"),
        ("siglip", {"pool": "gap"}, "which pools the mean of its patches"),
        ("clip", {"pool": "gap"}, "which pools the mean of its patches"),
        ("timm", {"pool": "cls_gap"}, "which reads class token and mean side by side"),
    ],
)
def test_the_property_in_the_way_is_named(format: str, changes: dict[str, Any], property: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=property):
        save_as(model_with_card(**changes), tmp_path / "converted", format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["timm", "transformers", "torchvision"])
def test_a_single_file_is_verified_by_the_upstream_model(format: str, tmp_path: Path) -> None:
    model = model_with_card(gelu="erf", norm_eps=1e-12 if format == "transformers" else 1e-6)
    assert numeric(save_as(model, tmp_path / "converted.safetensors", format)) == []
    upstream = load_upstream_model(format, tmp_path / "converted.safetensors", model.config)
    assert isinstance(upstream, UpstreamModel)
    assert upstream.title.startswith(f"{format} ")
    assert upstream.output == "logits"
    torch.testing.assert_close(upstream.forward(batch := images(model)), model(batch), rtol=0, atol=1e-4)


def test_a_hybrid_is_verified_by_timm(tmp_path: Path) -> None:
    model = model_with_card(image_size=64, patch_size=32, stem_stages=(2, 2, 2, 2), gelu="erf")
    save_as(model, tmp_path / "converted.safetensors", "timm")
    upstream = load_upstream_model("timm", tmp_path / "converted.safetensors", model.config)
    assert isinstance(upstream, UpstreamModel)
    assert upstream.forward(images(model)).shape == (2, 3)


def test_the_reason_for_not_verifying_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_with_card(representation_size=12, gelu="erf")
    save_as(model, tmp_path / "converted.safetensors", "timm")
    reason = load_upstream_model("timm", tmp_path / "converted.safetensors", model.config)
    assert str(reason).startswith(f"timm {timm.__version__} cannot load it: pre_logits.fc.bias")
    odd_stages = model_with_card(image_size=64, patch_size=32, stem_stages=(2, 1, 2, 2), gelu="erf")
    reason = load_upstream_model("timm", tmp_path / "converted.safetensors", odd_stages.config)
    assert str(reason).endswith("timm has no hybrid with stages (2, 1, 2, 2) of width 64")
    grey = model_with_card(channels=1, gelu="erf")
    reason = load_upstream_model("torchvision", tmp_path / "converted.safetensors", grey.config)
    assert str(reason).endswith("cannot load it: its models need square colour images")
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    reason = load_upstream_model("timm", tmp_path / "converted.safetensors", model.config)
    assert str(reason).startswith("timm is not installed")


def test_an_mlp_that_dinov2_cannot_have_is_refused(tmp_path: Path) -> None:
    model = model_with_card(**DINO, mlp_dim=30)
    with pytest.raises(ValueError, match="transformers has no DINOv2 with an MLP of 30 at width 12"):
        save_as(model, tmp_path / "converted", "dinov2")
    assert list(tmp_path.iterdir()) == []
    assert numeric(upstream_state_dict(LINEAGES["dinov2"], model)[1]) == []
