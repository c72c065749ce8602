"""Folders and files that Vitral writes: their owners' own loaders take them, and compute the same."""

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
from vitral.vit import ViT
from vitral.weights.foreign import LINEAGES, written_as
from vitral.weights.load import load
from vitral.weights.upstream import Owner, owner_of
from vitral.weights.writing import write_model

PHOTOS = Preprocessing(
    image_size=(16, 16), channels=3, resize="crop", crop_ratio=0.5, interpolation="bicubic", mean=(0.1, 0.2, 0.3)
)
DINO: dict[str, Any] = dict(layer_scale=0.5, gelu="erf")


def model_with_card(**changes: Any) -> ViT:
    model = small_model(image_size=changes.pop("image_size", 16), **changes)
    assert model.card is not None
    seen = PHOTOS.fitted(image_size=model.config.image_hw, channels=model.config.channels)
    model.card = replace(model.card, preprocessing=seen, classes=("cat", "dog", "owl"))
    return model


def images(model: ViT) -> torch.Tensor:
    return torch.rand(2, model.config.channels, *model.config.image_hw) * 2 - 1


def same_again(folder: Path, model: ViT) -> None:
    """The folder is read here with everything that was said of the model."""
    again = load(folder)
    assert isinstance(again, ViT)
    assert replace(again.config, position_resample="google") == replace(
        model.config, layer_scale=again.config.layer_scale
    )
    assert again.card is not None
    assert model.card is not None
    assert again.card.preprocessing.resize == model.card.preprocessing.resize
    assert again.card.preprocessing.crop_ratio == pytest.approx(model.card.preprocessing.crop_ratio, rel=0.05)
    assert again.card.preprocessing.interpolation == model.card.preprocessing.interpolation
    assert again.card.preprocessing.mean == model.card.preprocessing.mean
    torch.testing.assert_close(again(seen := images(model)), model(seen), rtol=0, atol=1e-4)


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
def test_timms_loader_takes_the_folder(changes: dict[str, Any], tmp_path: Path) -> None:
    model = model_with_card(**changes)
    assert write_model(model, tmp_path / "there", "timm") == []
    peer = timm.create_model(f"local-dir:{tmp_path / 'there'}", pretrained=True).eval()
    torch.testing.assert_close(peer(seen := images(model)), model(seen), rtol=0, atol=1e-4)
    assert peer.pretrained_cfg["label_names"] == ["cat", "dog", "owl"]
    told = resolve_model_data_config(peer)
    assert model.card is not None
    assert list(told["mean"]) == list(model.card.preprocessing.mean)
    assert (told["crop_pct"], told["crop_mode"], told["interpolation"]) == (0.5, "center", "bicubic")
    assert create_transform(**told) is not None
    same_again(tmp_path / "there", model)


@pytest.mark.parametrize("changes", [{}, {"gelu": "erf", "norm_eps": 1e-12}, {"image_size": (16, 24), "channels": 1}])
def test_transformers_loader_takes_the_folder(changes: dict[str, Any], tmp_path: Path) -> None:
    model = model_with_card(**changes)
    assert write_model(model, tmp_path / "there", "transformers") == []
    peer, said = transformers.ViTForImageClassification.from_pretrained(tmp_path / "there", output_loading_info=True)
    assert not any(said.values()), said
    torch.testing.assert_close(peer(seen := images(model)).logits, model(seen), rtol=0, atol=1e-4)
    assert peer.config.id2label == {0: "cat", 1: "dog", 2: "owl"}


def test_transformers_processor_takes_the_folder(tmp_path: Path) -> None:
    model = model_with_card()
    write_model(model, tmp_path / "there", "transformers")
    same_again(tmp_path / "there", model)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "there")
    pixels = torch.randint(256, (3, 32, 48), dtype=torch.uint8)
    seen = processor(pixels, return_tensors="pt")["pixel_values"]
    assert seen.shape == (1, 3, 16, 16)
    middle = (pixels[:, 8:24, 16:32] / 255 - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / 0.5
    torch.testing.assert_close(seen[0], middle, rtol=0, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"num_registers": 2}, {"mlp": "swiglu", "mlp_dim": 32, "num_registers": 1}])
def test_dinov2s_loader_takes_the_folder(changes: dict[str, Any], tmp_path: Path) -> None:
    model = model_with_card(**DINO, **changes)
    assert write_model(model, tmp_path / "there", "dinov2") == []
    peer, said = transformers.AutoModel.from_pretrained(tmp_path / "there", output_loading_info=True)
    assert said["missing_keys"] <= {"embeddings.mask_token"}
    assert not said["unexpected_keys"]
    features = model.features(seen := images(model)).pooled
    torch.testing.assert_close(peer(seen).pooler_output, features, rtol=0, atol=1e-4)


TOWERS: dict[str, dict[str, Any]] = {
    "clip": dict(pre_norm=True, patch_bias=False, gelu="quick", norm_eps=1e-5, head_bias=None),
    "siglip": dict(pool="map"),
    "dinov3": dict(position="rope", num_registers=2, layer_scale=0.5, gelu="erf", norm_eps=1e-5),
    "transformers": dict(distillation=True),
}


@pytest.mark.parametrize("form", TOWERS)
def test_transformers_other_loaders_take_the_folder(form: str, tmp_path: Path) -> None:
    model = model_with_card(**TOWERS[form])
    for name, parameter in model.named_parameters():
        if form == "dinov3" and name.endswith("qkv.bias"):
            parameter.data.view(3, -1)[1] = 0  # keys have none there
    assert write_model(model, tmp_path / "there", form) == []
    kind = getattr(transformers, transformers.AutoConfig.from_pretrained(tmp_path / "there").architectures[0])
    peer, said = kind.from_pretrained(tmp_path / "there", output_loading_info=True)
    assert said["missing_keys"] <= {"embeddings.mask_token"}
    assert not said["unexpected_keys"]
    output = peer(seen := images(model))
    pooled = model.features(seen).pooled
    found = {"clip": "image_embeds", "transformers": "logits"}.get(form, "pooler_output")
    expected = pooled if found == "pooler_output" else model.classify(pooled)
    torch.testing.assert_close(getattr(output, found), expected, rtol=0, atol=1e-4)
    owner = owner_of(form, tmp_path / "there" / "model.safetensors", model.config)
    assert isinstance(owner, Owner), owner
    torch.testing.assert_close(owner.compute(seen), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("form", ["timm", "transformers", "torchvision"])
def test_a_single_file_is_judged_by_its_owner(form: str, tmp_path: Path) -> None:
    model = model_with_card(gelu="erf", norm_eps=1e-12 if form == "transformers" else 1e-6)
    assert write_model(model, tmp_path / "there.safetensors", form) == []
    owner = owner_of(form, tmp_path / "there.safetensors", model.config)
    assert isinstance(owner, Owner)
    assert owner.title.startswith(f"{form} ")
    assert owner.gives == "logits"
    torch.testing.assert_close(owner.compute(seen := images(model)), model(seen), rtol=0, atol=1e-4)


def test_a_hybrid_is_judged_by_timm(tmp_path: Path) -> None:
    model = model_with_card(image_size=64, patch_size=32, stem_stages=(2, 2, 2, 2), gelu="erf")
    write_model(model, tmp_path / "there.safetensors", "timm")
    owner = owner_of("timm", tmp_path / "there.safetensors", model.config)
    assert isinstance(owner, Owner)
    assert owner.compute(images(model)).shape == (2, 3)


def test_why_an_owner_was_not_asked_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_with_card(representation_size=12, gelu="erf")
    write_model(model, tmp_path / "there.safetensors", "timm")
    told = owner_of("timm", tmp_path / "there.safetensors", model.config)
    assert str(told).startswith(f"timm {timm.__version__} does not take it: pre_logits.fc.bias")
    odd = model_with_card(image_size=64, patch_size=32, stem_stages=(2, 1, 2, 2), gelu="erf")
    told = owner_of("timm", tmp_path / "there.safetensors", odd.config)
    assert str(told).endswith("timm has no hybrid with stages (2, 1, 2, 2) of width 64")
    grey = model_with_card(channels=1, gelu="erf")
    told = owner_of("torchvision", tmp_path / "there.safetensors", grey.config)
    assert str(told).endswith("does not take it: its models take square colour images")
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    assert owner_of("timm", tmp_path / "there.safetensors", model.config) == "timm is not installed, and was not asked"


def test_what_dinov2_cannot_hold_is_refused(tmp_path: Path) -> None:
    model = model_with_card(**DINO, mlp_dim=30)
    with pytest.raises(ValueError, match="transformers has no DINOv2 with an MLP of 30 at width 12"):
        write_model(model, tmp_path / "there", "dinov2")
    assert list(tmp_path.iterdir()) == []
    assert written_as(LINEAGES["dinov2"], model)[1] == []
