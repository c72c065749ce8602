"""Outputs of single blocks, and of images of several sizes, are those of timm and transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import nn

import vitral
from parity.saved.case import randomised, safetensors, transformers_folder
from vitral.errors import UserError
from vitral.vit import ViT

TIMM: dict[str, Any] = dict(
    img_size=64, patch_size=16, embed_dim=64, depth=3, num_heads=1, num_classes=5, dynamic_img_size=True
)
FORMS: dict[str, dict[str, Any]] = {
    "class token": {},
    "registers": {"reg_tokens": 2, "no_embed_class": True},
    "mean": {"global_pool": "avg", "class_token": False},
    "normed after pooling": {"global_pool": "avg", "class_token": False, "fc_norm": True},
}
IMAGES = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(2)) * 2 - 1


def pair(folder: Path, **form: Any) -> tuple[Any, ViT]:
    """timm's model, and ours of its file."""
    peer = randomised(lambda: VisionTransformer(**TIMM, **form))
    return peer, ViT.from_pretrained(safetensors(peer, folder), num_heads=1, gelu="erf")


def assert_equal(found: Any, expected: Any) -> None:
    """Tensors in lists and pairs: the same shapes, and values to 1e-5 of their norm."""
    if isinstance(expected, torch.Tensor):
        assert found.shape == expected.shape
        assert (found - expected).norm() <= 1e-5 * expected.norm()
        return
    for one, other in zip(found, expected, strict=True):
        assert_equal(one, other)


@pytest.mark.parametrize("form", FORMS)
@torch.inference_mode()
def test_without_a_head_the_model_returns_timms_features(form: str, tmp_path: Path) -> None:
    peer, model = pair(tmp_path, **FORMS[form])
    peer.reset_classifier(0)
    model.reset_classifier(0)
    assert_equal(model(IMAGES), peer(IMAGES))


@torch.inference_mode()
def test_without_heads_a_distilled_model_returns_the_mean_of_its_tokens(tmp_path: Path) -> None:
    peer: Any = randomised(lambda: VisionTransformerDistilled(**TIMM))
    model = ViT.from_pretrained(safetensors(peer, tmp_path), num_heads=1)
    peer.reset_classifier(0)
    model.reset_classifier(0)
    assert_equal(model(IMAGES), peer(IMAGES))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"indices": 2, "norm": True},
        {"indices": [2, 0], "return_prefix_tokens": True, "output_fmt": "NLC"},
        {"indices": [-2], "intermediates_only": True, "stop_early": True},
    ],
)
@torch.inference_mode()
def test_intermediates_are_timms(form: str, arguments: dict[str, Any], tmp_path: Path) -> None:
    peer, model = pair(tmp_path, **FORMS[form])
    assert_equal(model.forward_intermediates(IMAGES, **arguments), peer.forward_intermediates(IMAGES, **arguments))


@pytest.mark.parametrize("form", FORMS)
@torch.inference_mode()
def test_layers_features_and_head_are_timms(form: str, tmp_path: Path) -> None:
    peer, model = pair(tmp_path, **FORMS[form])
    for arguments in (dict(n=2), dict(n=[0, 2], reshape=True, return_prefix_tokens=True)):
        for norm in (False, True):
            expected = peer.get_intermediate_layers(IMAGES, norm=norm, **arguments)
            assert_equal(model.get_intermediate_layers(IMAGES, norm=norm, **arguments), expected)
    tokens = peer.forward_features(IMAGES)
    assert_equal(model.forward_features(IMAGES), tokens)
    assert_equal(model.forward_head(tokens), peer.forward_head(tokens))
    assert_equal(model.forward_head(tokens, pre_logits=True), peer.forward_head(tokens, pre_logits=True))


SIZES = (64, 128, 96)


@torch.inference_mode()
def check_sizes(path: Path, expected: dict[int, torch.Tensor], images: dict[int, torch.Tensor], **options: Any) -> None:
    """Loaded as it is, the model gives its owner's logits at every size; loaded for a size, at that one alone."""
    for size in SIZES:
        assert_equal(vitral.load(path, **options)(images[size]), expected[size])
        assert_equal(vitral.load(path, image_size=size, **options)(images[size]), expected[size])
    model = vitral.load(path, image_size=128, **options)
    with pytest.raises(UserError, match="from 4x4 to 8x8 patches, and interpolating them again to 6x6"):
        model(images[96])


def random_images() -> dict[int, torch.Tensor]:
    return {size: torch.rand(2, 3, size, size) * 2 - 1 for size in SIZES}


def test_other_sizes_are_timms_and_are_not_resampled_twice(tmp_path: Path) -> None:
    peer, _ = pair(tmp_path)
    images = random_images()
    with torch.inference_mode():
        expected = {size: peer(batch) for size, batch in images.items()}
    check_sizes(safetensors(peer, tmp_path), expected, images, num_heads=1)


@pytest.mark.parametrize("model_class", ["ViTForImageClassification", "DeiTForImageClassificationWithTeacher"])
def test_other_sizes_are_those_of_transformers(model_class: str, tmp_path: Path) -> None:
    config = dict(image_size=64, patch_size=16, hidden_size=64, num_hidden_layers=2, num_attention_heads=2)

    def build() -> nn.Module:
        made = getattr(transformers, model_class)
        return made(made.config_class(**config, intermediate_size=64, num_labels=5))

    peer, images = randomised(build), random_images()
    with torch.inference_mode():
        expected = {size: peer(batch, interpolate_pos_encoding=True).logits for size, batch in images.items()}
    check_sizes(transformers_folder(peer, tmp_path), expected, images)
