"""Models by name, as the paper, Google's code and timm write them."""

import re

import pytest
import torch

from vitral.models import NAMES, SIZES, architecture, blank_model, create
from vitral.resnet import ResNet, ResNetConfig
from vitral.vit import ViT


def count(name: str, **overrides: object) -> int:
    return sum(parameter.numel() for parameter in blank_model(architecture(name, **overrides)).parameters())


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("R+ViT-Ti/16", 6_337_704),
        ("R26+ViT-S/32", 36_431_912),
        ("R26+ViT-B/32", 101_383_976),
        ("R50+ViT-B/16", 98_659_112),
        ("R50+ViT-L/32", 328_994_856),
        ("R50+ViT-B/32", 110_945_832),
        ("R50+ViT-L/16", 316_483_624),
    ],
)
def test_hybrids_have_the_published_number_of_parameters(name: str, total: int) -> None:
    assert count(name) == total


@pytest.mark.parametrize(("representation_size", "total"), [(None, 21_974_632), (384, 22_122_472)])
def test_the_better_plain_vit_has_its_number_of_parameters(representation_size: int | None, total: int) -> None:
    better = dict(pool="gap", position="sincos_2d", representation_size=representation_size)
    assert count("ViT-S/16", **better) == total


def test_the_smallest_hybrid_has_49_tokens() -> None:
    assert architecture("R+ViT-Ti/16").grid == (7, 7)


def test_listed_models_can_be_built() -> None:
    assert len(set(NAMES)) == len(NAMES)
    for name in NAMES:
        model = blank_model(architecture(name))
        assert next(model.parameters()).is_meta
    listed = {re.sub(r"^ViT-(.+)/\d+$", r"\1", name) for name in NAMES if name.startswith("ViT-")}
    assert listed == set(SIZES) - {"b"}, "b is S by another name"


@pytest.mark.parametrize(
    ("other", "own", "changes"),
    [
        ("ViT-B_16", "ViT-B/16", {}),
        ("ViT-H_14", "ViT-H/14", {}),
        ("R50+ViT-B_16", "R50+ViT-B/16", {}),
        ("R+ViT-Ti_16", "R+ViT-Ti/16", {}),
        ("vit_base_patch16_224", "ViT-B/16", {}),
        ("vit_base_patch16_224.augreg_in21k", "ViT-B/16", {}),
        ("vit_large_patch16_384", "ViT-L/16", {"image_size": 384}),
        ("vit_tiny_patch16_224", "ViT-Ti/16", {}),
        ("vit_base_patch16_gap_224", "ViT-B/16", {"pool": "gap"}),
        ("vit_so400m_patch14_224", "ViT-So400m/14", {}),
        ("vit_giant_patch14_224", "ViT-g/14", {}),
        ("vit_gigantic_patch14_224", "ViT-G/14", {}),
        ("vit_tiny_r_s16_p8_224", "R+ViT-Ti/16", {}),
        ("vit_small_r26_s32_224", "R26+ViT-S/32", {}),
        ("vit_base_r50_s16_384", "R50+ViT-B/16", {"image_size": 384}),
        ("vit_large_r50_s32_224", "R50+ViT-L/32", {}),
        ("resnetv2_50x1_bit", "BiT-R50x1", {}),
        ("resnetv2_152x2_bit.goog_in21k", "BiT-R152x2", {}),
    ],
)
def test_other_spellings_are_the_same_models(other: str, own: str, changes: dict[str, object]) -> None:
    assert architecture(other) == architecture(own, **changes)


def test_overrides_are_stronger_than_names() -> None:
    assert architecture("vit_large_patch16_384", image_size=64).image_size == 64
    assert architecture("Axial-ViT-B/32", pool="map").pool == "map"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("R101+ViT-B/16", "unknown hybrid 'R101+ViT-B/16': there are R50+ViT-.../16"),
        ("BiT-R18x1", "unknown model 'BiT-R18x1': a BiT ResNet has 50, 101, 152, 200 layers"),
        ("BiT-R50x0", "unknown model 'BiT-R50x0'"),
        ("vit_little_patch16_224", "unknown model 'vit_little_patch16_224'"),
        ("vit_base_patch16_clip_224", "unknown model 'vit_base_patch16_clip_224'"),
    ],
)
def test_names_that_are_none_are_refused(name: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        architecture(name)


def test_fields_that_a_model_has_not_are_refused() -> None:
    with pytest.raises(ValueError, match="BiT-R50x1 has no patch_size: its fields are image_size, channels, stages"):
        architecture("BiT-R50x1", patch_size=16)
    with pytest.raises(ValueError, match="ViT-B/16 has no colour: its fields are"):
        create("ViT-B/16", colour=True)


def test_each_family_is_built() -> None:
    assert isinstance(create("BiT-R50x1", stages=(1,), root_width=32), ResNet)
    assert isinstance(create("ViT-mu/16"), ViT)
    assert isinstance(architecture("BiT-R50x1"), ResNetConfig)


def test_the_meta_device_takes_no_memory() -> None:
    with torch.device("meta"):
        assert create("ViT-mu/16").head.weight.is_meta
