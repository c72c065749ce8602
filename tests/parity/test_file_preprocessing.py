"""How images are prepared for files of timm: as timm does for a name or a training script, else assumed with a note."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.data import resolve_data_config
from timm.models import get_pretrained_cfg

from vitral.data.images.preprocess import Preprocessing
from vitral.errors import UserError
from vitral.weights.load import load_with_report

SIZES: dict[str, Any] = dict(img_size=32, patch_size=8, embed_dim=96, depth=1, num_heads=12, num_classes=7)


def state_dict(name: str = "vit_base_patch16_224", **args: Any) -> dict[str, torch.Tensor]:
    model = timm.create_model(name, **{**SIZES, **args})
    torch.nn.init.normal_(model.get_submodule("head").weight)
    return model.state_dict()


def read(path: Path, **options: Any) -> tuple[Preprocessing, str]:
    model, report = load_with_report(path, **options)
    assert report is not None
    assert model.card is not None
    return model.card.preprocessing, " ".join(report.notes)


def check(preprocessing: Preprocessing, expected: dict[str, Any]) -> None:
    """Compares with what timm resolves."""
    assert preprocessing.mean == pytest.approx(expected["mean"])
    assert preprocessing.std == pytest.approx(expected["std"])
    assert preprocessing.interpolation == expected["interpolation"]
    squash = "squash" if expected["crop_pct"] == 1 else "squash_crop"
    assert preprocessing.resize == (squash if expected["crop_mode"] == "squash" else "crop")
    if preprocessing.resize != "squash":
        assert preprocessing.crop_ratio == expected["crop_pct"]


NAMES = ("vit_base_patch16_224", "vit_base_patch16_224.mae", "vit_base_patch16_224.dino", "deit_base_patch16_224")


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_an_architecture_decides(name: str, tmp_path: Path) -> None:
    torch.save(state_dict(name.partition(".")[0]), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": name}))
    preprocessing, notes = read(tmp_path)
    cfg = get_pretrained_cfg(name)
    assert cfg is not None
    check(preprocessing, resolve_data_config(pretrained_cfg=cfg.to_dict()))
    assert "preprocessing" not in notes


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "crop_pct": 0.8, "interpolation": "bilinear"},
        {"mean": None, "std": None, "crop_pct": None, "interpolation": "", "crop_mode": "squash"},
        {"mean": (0.25,), "std": (0.5,)},
    ],
)
@pytest.mark.parametrize("as_dict", [False, True])
def test_the_arguments_of_timms_training_count(args: dict[str, Any], as_dict: bool, tmp_path: Path) -> None:
    given = {"model": "deit_base_patch16_224", "gp": None, **args}
    content = {
        "arch": "deit_base_patch16_224",
        "state_dict": state_dict(),
        "args": given if as_dict else argparse.Namespace(**given),
    }
    torch.save(content, tmp_path / "x.pth.tar")
    cfg = get_pretrained_cfg("deit_base_patch16_224")
    assert cfg is not None
    preprocessing, notes = read(tmp_path / "x.pth.tar")
    check(preprocessing, resolve_data_config(args, pretrained_cfg=cfg.to_dict()))
    assert "preprocessing" not in notes.replace("its preprocessing crops", "")


@pytest.mark.parametrize(
    ("name", "options", "like"),
    [
        ("vit_base_patch16_224", {}, "vit_base_patch16_224"),
        ("vit_base_patch16_clip_224", {"gelu": "erf"}, "vit_base_patch16_clip_224"),
        ("vit_base_patch16_siglip_224", {"gelu": "tanh"}, "vit_base_patch16_siglip_224"),
        ("vit_base_patch14_dinov2", {}, "vit_base_patch14_dinov2"),
        ("vit_small_patch16_dinov3", {"pool": "gap"}, "vit_base_patch16_dinov3"),
        ("deit_base_distilled_patch16_224", {}, "deit_base_distilled_patch16_224"),
    ],
)
def test_a_bare_file_is_prepared_as_the_model_that_a_note_names(
    name: str, options: dict[str, Any], like: str, tmp_path: Path
) -> None:
    torch.save(state_dict(name), tmp_path / "x.pth")
    preprocessing, notes = read(tmp_path / "x.pth", **options)
    cfg = get_pretrained_cfg(like)
    assert cfg is not None
    check(preprocessing, resolve_data_config(pretrained_cfg=cfg.to_dict()))
    assert "does not store its preprocessing" in notes
    assert f"as of timm's {like}; " in notes
    assert "a config.json that names its architecture" in notes


def test_values_that_are_no_preprocessing_are_refused(tmp_path: Path) -> None:
    content = {"arch": "deit_base_patch16_224", "state_dict": state_dict(), "args": {"mean": [0.1, 0.2]}}
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(UserError, match="2 numbers as mean"):
        read(tmp_path / "x.pth")
