"""timm's `VisionTransformer` with random weights gives Vitral's logits and gradients."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from timm.layers import Mlp, SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitral.models import architecture
from vitral.vit import ViT
from vitral.vit_config import ViTConfig

ACTIVATIONS = {"erf": nn.GELU, "tanh": partial(nn.GELU, approximate="tanh")}


def timm_model(config: ViTConfig) -> VisionTransformer:
    """timm's model with the same architecture and numerics."""
    gated = config.mlp == "swiglu"
    return VisionTransformer(
        img_size=config.image_hw,
        patch_size=config.patch_hw,
        in_chans=config.channels,
        num_classes=config.num_classes,
        global_pool={"cls": "token", "gap": "avg", "map": "map"}[config.pool],
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.num_heads,
        mlp_ratio=config.mlp_dim / config.width * (2 if gated else 1),
        mlp_layer=SwiGLUPacked if gated else Mlp,
        qk_norm=config.qk_norm,
        init_values=config.layer_scale,
        reg_tokens=config.num_registers,
        no_embed_class=config.num_registers > 0,
        class_token=config.pool == "cls",
        pos_embed={"learned_1d": "learn", "none": "none"}[config.position],
        fc_norm=False,
        norm_layer=partial(nn.LayerNorm, eps=config.norm_eps),
        act_layer=nn.SiLU if gated else ACTIVATIONS[config.gelu],
    )


def convert(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Only the attention pooling has another name."""
    return {re.sub(r"^attn_pool\.", "pool.", name): tensor for name, tensor in tensors.items()}


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
def test_small_models_are_equal(
    overrides: dict[str, Any], gelu: str, pool: str, assert_same: Callable[..., None]
) -> None:
    config = ViTConfig(**{**TINY, **overrides}, gelu=gelu, pool=pool)
    assert_same(ViT(config).double(), timm_model(config), convert, std=0.2, tol=1e-9)


@pytest.mark.parametrize("pool", ["cls", "gap"])
def test_models_without_positions_are_equal(pool: str, assert_same: Callable[..., None]) -> None:
    config = ViTConfig(**TINY, position="none", pool=pool)
    assert_same(ViT(config).double(), timm_model(config), convert, std=0.2, tol=1e-9)


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param({"layer_scale": 0.1}, id="LayerScale"),
        pytest.param({"qk_norm": True}, id="normalised queries and keys"),
        pytest.param({"mlp": "swiglu"}, id="SwiGLU"),
        pytest.param({"pool": "map"}, id="attention pooling"),
        pytest.param({"pool": "gap", "num_registers": 3}, id="registers"),
        pytest.param({"pool": "map", "num_registers": 1, "qk_norm": True, "layer_scale": 0.3}, id="all together"),
        pytest.param({"drop_path": 0.3, "dropout": 0.2}, id="regularised, in evaluation"),
        pytest.param({"drop_path": 0.3, "drop_path_form": "batch"}, id="subsets, in evaluation"),
    ],
)
def test_parts_of_later_models_are_equal(overrides: dict[str, Any], assert_same: Callable[..., None]) -> None:
    config = ViTConfig(**{**TINY, **overrides}, gelu="erf")
    assert_same(ViT(config).double(), timm_model(config), convert, std=0.2, tol=1e-9)


def test_vit_s16_is_equal_in_float32(assert_same: Callable[..., None]) -> None:
    config = architecture("ViT-S/16", gelu="erf")
    assert_same(ViT(config), timm_model(config), convert, std=0.02, tol=1e-4)
