"""Every key of transformers' configurations: another value gives the owner's output, or a refusal."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from parity.saved.case import owner_output, randomised, safetensors, transformers_folder
from parity.saved.transformers_files import built
from vitral.errors import UserError
from vitral.vit import ViT
from vitral.weights.load import load_with_report

BUILDS: dict[str, Callable[[], nn.Module]] = {
    "ViT": built("ViTForImageClassification", "ViTConfig"),
    "DeiT": built("DeiTForImageClassification", "DeiTConfig"),
    "I-JEPA": built("IJepaForImageClassification", "IJepaConfig"),
    "DINOv2": built("Dinov2Model", "Dinov2Config"),
    "DINOv2, registers": built("Dinov2WithRegistersForImageClassification", "Dinov2WithRegistersConfig"),
    "DINOv3": built("DINOv3ViTModel", "DINOv3ViTConfig", num_register_tokens=2),
    "DINOv3, gated": built("DINOv3ViTModel", "DINOv3ViTConfig", use_gated_mlp=True, hidden_act="silu"),
    "CLIP": built("CLIPVisionModelWithProjection", "CLIPVisionConfig", projection_dim=7),
    "SigLIP": built("SiglipVisionModel", "SiglipVisionConfig"),
}
NAMES = {"architectures", "model_type", "id2label", "label2id", "dtype", "transformers_version", "problem_type"}
"""Keys that describe the file, not the model."""


def another(key: str, value: Any) -> Any:
    """Another value of the same type."""
    if key == "hidden_act":
        return "relu"
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return type(value)(2 * value) or type(value)(1)
    return {"tanh": "relu"}.get(value, value) if isinstance(value, str) else value


def owner(folder: Path, like: nn.Module) -> nn.Module | None:
    """The owner's model with another configuration; None if the owner refuses it."""
    try:
        return type(like).from_pretrained(folder).eval()  # pyright: ignore[reportAttributeAccessIssue]
    except (ValueError, RuntimeError, TypeError):
        return None


@pytest.mark.parametrize("name", BUILDS)
def test_another_value_is_honoured_or_refused(name: str, tmp_path: Path) -> None:
    peer = randomised(BUILDS[name])
    folder = transformers_folder(peer, tmp_path)
    saved = json.loads((folder / "config.json").read_text())
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    refused = set()
    for key in sorted(saved.keys() - NAMES):
        if (value := another(key, saved[key])) == saved[key]:
            continue
        (folder / "config.json").write_text(json.dumps({**saved, key: value}))
        try:
            model, report = load_with_report(folder)
        except UserError:
            refused.add(key)
            continue
        other = owner(folder, peer)
        assert other is not None, f"the owner refuses {key} {value}"
        assert report is not None
        assert isinstance(model, ViT)
        with torch.inference_mode():
            pooled = "has no head" in " ".join(report.notes)
            actual = model.features(images).pooled if pooled else model(images)
            if key != "vision_use_head":  # without it, the owner pools nothing
                expected = owner_output(other, images)
                assert (actual - expected).norm() <= 1e-5 * expected.norm(), (key, value)
    assert refused >= {"hidden_act", "hidden_size", "num_hidden_layers", "num_channels"}


@pytest.mark.parametrize("values", [{"patch_size": 4}, {"depth": 1}, {"embed_dim": 32}])
def test_arguments_of_timm_that_contradict_the_tensors_are_refused(values: dict[str, int], tmp_path: Path) -> None:
    """timm resamples the patch embedding to another patch size, and refuses the others."""
    sizes: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 4}
    peer = randomised(lambda: timm.create_model("vit_base_patch16_224", **sizes))
    safetensors(peer, tmp_path)
    stated = {"architecture": "vit_base_patch16_224", "model_args": {**sizes, **values}}
    (tmp_path / "config.json").write_text(json.dumps(stated))
    with pytest.raises(UserError, match=r"correct config\.json"):
        load_with_report(tmp_path)
