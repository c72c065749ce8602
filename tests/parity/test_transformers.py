"""A random `ViTForImageClassification` of transformers and ours give the same logits and gradients."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from vitral.models import architecture
from vitral.vit import ViT
from vitral.vit_config import ViTConfig

ACTIVATIONS = {"erf": "gelu", "tanh": "gelu_pytorch_tanh"}

# The peer's module behind each of ours; the q, k and v projections are one matrix here.
MODULES = {
    "patch_embed.proj": ("vit.embeddings.patch_embeddings.projection",),
    "blocks.*.norm1": ("vit.layers.*.layernorm_before",),
    "blocks.*.attn.qkv": tuple(f"vit.layers.*.attention.{x}_proj" for x in "qkv"),
    "blocks.*.attn.proj": ("vit.layers.*.attention.o_proj",),
    "blocks.*.norm2": ("vit.layers.*.layernorm_after",),
    "blocks.*.mlp.fc1": ("vit.layers.*.mlp.fc1",),
    "blocks.*.mlp.fc2": ("vit.layers.*.mlp.fc2",),
    "norm": ("vit.layernorm",),
    "head": ("classifier",),
}


def to_ours(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Their named tensors under our names; every one of theirs is used exactly once."""
    theirs = dict(tensors)
    depth = 1 + max(int(match[1]) for name in theirs if (match := re.match(r"vit\.layers\.(\d+)\.", name)))
    ours = {
        "cls_token": theirs.pop("vit.embeddings.cls_token"),
        "pos_embed": theirs.pop("vit.embeddings.position_embeddings"),
    }
    for module, parts in MODULES.items():
        for block in range(depth) if "*" in module else (0,):
            for kind in ("weight", "bias"):
                names = [f"{part}.{kind}".replace("*", str(block)) for part in parts]
                ours[f"{module}.{kind}".replace("*", str(block))] = torch.cat([theirs.pop(name) for name in names])
    assert not theirs
    return ours


def transformers_model(config: ViTConfig) -> transformers.ViTForImageClassification:
    """transformers' model of the same architecture and numerics.

    It computes attention with PyTorch's fused function: its own spelling of it goes through float32 at the softmax.
    """
    return transformers.ViTForImageClassification(
        transformers.ViTConfig(
            image_size=config.image_hw,
            patch_size=config.patch_hw,
            num_channels=config.channels,
            num_labels=config.num_classes,
            hidden_size=config.width,
            num_hidden_layers=config.depth,
            num_attention_heads=config.num_heads,
            intermediate_size=config.mlp_dim,
            hidden_act=ACTIVATIONS[config.gelu],
            layer_norm_eps=config.norm_eps,
            attn_implementation="sdpa",
        )
    )


TINY: dict[str, Any] = {
    "image_size": 16,
    "patch_size": 4,
    "width": 32,
    "depth": 2,
    "num_heads": 4,
    "mlp_dim": 64,
    "num_classes": 7,
}


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param({}, id="square"),
        pytest.param({"image_size": (8, 20)}, id="wide image"),
        pytest.param({"image_size": (24, 10), "patch_size": (6, 5)}, id="tall image and patch"),
        pytest.param({"channels": 1}, id="grey"),
        pytest.param({"channels": 4, "depth": 1, "num_heads": 1}, id="four channels, one block, one head"),
        pytest.param({"norm_eps": 1e-3, "mlp_dim": 50}, id="other epsilon and MLP"),
    ],
)
@pytest.mark.parametrize("gelu", ["tanh", "erf"])
def test_small_models_agree(overrides: dict[str, Any], gelu: str, assert_same: Callable[..., None]) -> None:
    config = ViTConfig(**{**TINY, **overrides}, gelu=gelu)
    assert_same(ViT(config).double(), transformers_model(config), to_ours, std=0.2, tol=1e-9)


def test_small_16_at_224_agrees_in_float32(assert_same: Callable[..., None]) -> None:
    config = architecture("ViT-S/16", gelu="erf", norm_eps=1e-12)
    assert_same(ViT(config), transformers_model(config), to_ours, std=0.02, tol=1e-4)
