"""Photographs as Vitral prepares them for another project's file, and as that project does, pixel by pixel."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import skimage.data
import timm
import torch
import torchvision
import transformers
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor
from transformers.models.auto.image_processing_auto import (
    IMAGE_PROCESSOR_MAPPING_NAMES,  # pyright: ignore[reportPrivateImportUsage]
)

from models import small_model
from vitral.data.images.preprocess import Preprocessing
from vitral.vit_config import ViTConfig
from vitral.weights.lineages.registry import LINEAGES
from vitral.weights.load import load
from vitral.weights.processors import PROCESSOR_OF, PROCESSORS, SQUASHING
from vitral.weights.save import save_as
from vitral.weights.upstream_card import upstream_card

PHOTOGRAPHS = [Image.fromarray(getattr(skimage.data, name)()) for name in ("astronaut", "coffee", "chelsea")]
"""A square one, and two that are wider than high."""


def read(lineage: str, stated: dict[str, Any], **fields: Any) -> tuple[Preprocessing, list[str]]:
    config = ViTConfig(**{"image_size": 224, "patch_size": 16, "width": 64, "depth": 1, "num_heads": 1, **fields})
    card, notes = upstream_card(config, LINEAGES[lineage], stated, origin="model")
    return card.preprocessing, notes


def check(preprocessing: Preprocessing, upstream: Callable[[Image.Image], Tensor]) -> None:
    """Rounding may move a value by one level of 255, and few of them."""
    std = torch.tensor(preprocessing.std).reshape(-1, 1, 1)
    for photograph in PHOTOGRAPHS:
        pixels = preprocessing.pixels(preprocessing.read(photograph, name=None))
        levels = (preprocessing.normalise(torch.from_numpy(pixels)[None])[0] - upstream(photograph)) * std * 255
        assert levels.abs().max() < 1.01
        assert levels.abs().mean() < 0.02


@pytest.mark.parametrize(
    "name",
    [
        "vit_base_patch16_224.augreg2_in21k_ft_in1k",
        "vit_base_patch16_clip_224.laion2b_ft_in12k_in1k",
        "vit_small_patch16_dinov3.lvd1689m",
        "vit_base_patch16_siglip_224.webli",
    ],
)
def test_pixels_equal_timms(name: str) -> None:
    cfg = timm.models.get_pretrained_cfg(name)
    assert cfg is not None
    stated, size = {"pretrained_cfg": cfg.to_dict()}, cfg.to_dict()["input_size"][1]
    preprocessing, _ = read("timm", stated, image_size=size)
    transform: Any = create_transform(**resolve_data_config({}, pretrained_cfg=cfg.to_dict()))
    check(preprocessing, transform)


@pytest.mark.parametrize(
    ("name", "width", "patch"),
    [
        ("ViT_B_16_Weights.IMAGENET1K_V1", 768, 16),
        ("ViT_L_16_Weights.IMAGENET1K_V1", 1024, 16),
        ("ViT_L_32_Weights.IMAGENET1K_V1", 1024, 32),
        ("ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1", 768, 16),
        ("ViT_L_16_Weights.IMAGENET1K_SWAG_E2E_V1", 1024, 16),
        ("ViT_H_14_Weights.IMAGENET1K_SWAG_E2E_V1", 1280, 14),
        ("ViT_H_14_Weights.IMAGENET1K_SWAG_LINEAR_V1", 1280, 14),
    ],
)
def test_pixels_equal_torchvisions(name: str, width: int, patch: int) -> None:
    transform: Any = torchvision.models.get_weight(name).transforms()
    size = transform.crop_size[0]
    preprocessing, notes = read("torchvision", {}, width=width, num_heads=16, patch_size=patch, image_size=size)
    check(preprocessing, transform)
    assert len(notes) == 1


@pytest.mark.parametrize("name", sorted(PROCESSORS.keys() - {"DINOv3ViT"}))
@pytest.mark.parametrize("complete", [True, False])
def test_pixels_equal_those_of_transformers_processors(name: str, complete: bool) -> None:
    processor = getattr(transformers, f"{name}ImageProcessorPil")()
    stated = processor.to_dict() if complete else {"image_processor_type": f"{name}ImageProcessor"}
    preprocessing, notes = read("transformers", stated)
    assert notes == []
    check(preprocessing, lambda image: processor(image, return_tensors="pt")["pixel_values"][0])


@pytest.mark.parametrize("name", PROCESSORS)
def test_defaults_of_processors_are_those_of_transformers(name: str) -> None:
    processor = getattr(transformers, f"{name}ImageProcessor")()
    found = PROCESSORS[name]
    stated = {key: value for key, value in processor.to_dict().items() if value is not None}
    assert {key: stated[key] for key in found if key != "resample"} == {
        **{key: value for key, value in found.items() if key != "resample"},
        **{key: stated[key] for key in ("image_mean", "image_std")},
    }
    assert list(stated["image_mean"]) == pytest.approx(list(found["image_mean"]))
    assert list(stated["image_std"]) == pytest.approx(list(found["image_std"]))
    assert Image.Resampling(stated["resample"]).name.lower() == found["resample"]
    assert ("do_center_crop" in stated) == ("do_center_crop" in found)
    if name != "Siglip":  # it takes no size of one number
        assert (name in SQUASHING) == processor.default_to_square


def test_processors_by_model_type_are_those_of_transformers() -> None:
    known = {kind: names for kind, names in IMAGE_PROCESSOR_MAPPING_NAMES.items() if kind in PROCESSOR_OF}
    assert len(known) > 9
    for kind, names in known.items():
        assert names["torchvision"] == f"{PROCESSOR_OF[kind]}ImageProcessor"


def test_pixels_equal_those_of_deits_file() -> None:
    """Its size is one number, to which its class squashes images before it crops their centre."""
    stated: dict[str, Any] = dict(
        size=256, crop_size=224, resample=3, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]
    )
    processor = transformers.DeiTImageProcessorPil(**stated)
    preprocessing, notes = read("transformers", {"feature_extractor_type": "DeiTFeatureExtractor", **stated})
    assert notes == []
    assert (preprocessing.resize, preprocessing.crop_ratio) == ("squash_crop", 0.875)
    check(preprocessing, lambda image: processor(image, return_tensors="pt")["pixel_values"][0])


def test_another_processor_is_named() -> None:
    _, notes = read("transformers", {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}})
    assert "ConvNext" in notes[0]


@pytest.mark.parametrize("format", ["timm", "transformers"])
def test_a_crop_of_the_squashed_image_is_written_and_read(format: str, tmp_path: Path) -> None:
    model = small_model(image_size=16, gelu="erf")
    assert model.card is not None
    stated = Preprocessing(
        image_size=(16, 16), channels=3, resize="squash_crop", crop_ratio=0.8, interpolation="bicubic"
    )
    model.card = replace(model.card, preprocessing=stated)
    save_as(model, tmp_path / "model", format=format)
    card = load(tmp_path / "model").card
    assert card is not None
    assert replace(card.preprocessing, mean=stated.mean, std=stated.std) == stated


def test_the_centre_of_a_squashed_image_by_hand() -> None:
    """40 by 80 pixels become 4 by 4; the middle 2 by 2 are those of rows 10 to 30 and columns 20 to 60."""
    image = Image.new("L", (80, 40), 9)
    image.paste(200, (20, 10, 60, 30))
    spec = Preprocessing(image_size=(2, 2), channels=1, resize="squash_crop", crop_ratio=0.5)
    assert spec.resized_hw == (4, 4)
    assert (spec.pixels(image) > 150).all()
    assert (replace(spec, resize="squash").pixels(image) < 150).all()
