"""A random `VisionTransformer` of timm and ours give the same logits and gradients."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitral.models import architecture
from vitral.vit import ViT
from vitral.vit_config import ViTConfig

ACTIVATIONS = {"erf": nn.GELU, "tanh": partial(nn.GELU, approximate="tanh")}


def timm_model(config: ViTConfig) -> VisionTransformer:
    """timm's model of the same architecture and numerics."""
    return VisionTransformer(
        img_size=config.image_hw,
        patch_size=config.patch_hw,
        in_chans=config.channels,
        num_classes=config.num_classes,
        global_pool={"cls": "token", "gap": "avg"}[config.pool],
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.num_heads,
        mlp_ratio=config.mlp_dim / config.width,
        class_token=config.pool == "cls",
        pos_embed={"learned_1d": "learn", "none": "none"}[config.position],
        fc_norm=False,
        norm_layer=partial(nn.LayerNorm, eps=config.norm_eps),
        act_layer=ACTIVATIONS[config.gelu],
    )


def to_ours(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names are the same ones."""
    return tensors


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
        pytest.param({"norm_eps": 1e-3, "mlp_dim": 48}, id="other epsilon and MLP"),
    ],
)
@pytest.mark.parametrize("gelu", ["tanh", "erf"])
@pytest.mark.parametrize("pool", ["cls", "gap"])
def test_small_models_agree(overrides: dict[str, Any], gelu: str, pool: str, assert_same: Callable[..., None]) -> None:
    config = ViTConfig(**{**TINY, **overrides}, gelu=gelu, pool=pool)
    assert_same(ViT(config).double(), timm_model(config), to_ours, std=0.2, tol=1e-9)


@pytest.mark.parametrize("pool", ["cls", "gap"])
def test_models_without_positions_agree(pool: str, assert_same: Callable[..., None]) -> None:
    config = ViTConfig(**TINY, position="none", pool=pool)
    assert_same(ViT(config).double(), timm_model(config), to_ours, std=0.2, tol=1e-9)


def test_small_16_at_224_agrees_in_float32(assert_same: Callable[..., None]) -> None:
    config = architecture("ViT-S/16", gelu="erf")
    assert_same(ViT(config), timm_model(config), to_ours, std=0.02, tol=1e-4)
