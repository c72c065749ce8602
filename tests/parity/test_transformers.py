"""transformers' models with random weights give Vitral's logits and gradients."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from parity.peers import WithClassifier, rename_tensors, without_mask_token
from vitral.models import architecture
from vitral.vit import ViT
from vitral.vit_config import ViTConfig
from vitral.weights.lineages.registry import LINEAGES

ACTIVATIONS = {"erf": "gelu", "tanh": "gelu_pytorch_tanh"}

# For each of Vitral's modules, the peer's; Vitral's q, k and v projections are one matrix.
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


SINGLE = {"cls_token": "vit.embeddings.cls_token", "pos_embed": "vit.embeddings.position_embeddings"}


def convert(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The peer's tensors under Vitral's names."""
    return rename_tensors(tensors, modules=MODULES, single=SINGLE)


def transformers_model(config: ViTConfig) -> transformers.ViTForImageClassification:
    """transformers' model with the same architecture and numerics.

    It uses PyTorch's fused attention, because its own implementation casts to float32 for the softmax.
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
def test_small_models_are_equal(overrides: dict[str, Any], gelu: str, assert_same: Callable[..., None]) -> None:
    config = ViTConfig(**{**TINY, **overrides}, gelu=gelu)
    assert_same(ViT(config).double(), transformers_model(config), convert, std=0.2, tol=1e-9)


def test_vit_s16_is_equal_in_float32(assert_same: Callable[..., None]) -> None:
    config = architecture("ViT-S/16", gelu="erf", norm_eps=1e-12)
    assert_same(ViT(config), transformers_model(config), convert, std=0.02, tol=1e-4)


# Later models: registers, LayerScale, gated MLPs, rotary positions, attention pooling


def encoder_names(layer: str, attention: str, **others: str) -> dict[str, tuple[str, ...]]:
    """Names of a block's modules where q, k and v are three projections."""
    names = {f"blocks.*.{name}": (f"{layer}.{peer}",) for name, peer in others.items()}
    return names | {"blocks.*.attn.qkv": tuple(f"{layer}.{attention}.{x}_proj" for x in "qkv")}


@pytest.mark.parametrize("mlp", ["gelu", "swiglu"])
def test_dinov2_with_registers_is_equal(mlp: str, assert_same: Callable[..., None]) -> None:
    config = ViTConfig(**TINY, gelu="erf", num_registers=2, layer_scale=0.1, mlp=mlp)
    hidden = 64 if mlp == "gelu" else 96  # the peer uses two thirds of it, rounded up to a multiple of 8
    encoder = transformers.Dinov2WithRegistersModel(
        transformers.Dinov2WithRegistersConfig(
            image_size=16,
            patch_size=4,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            mlp_ratio=hidden // 32,
            use_swiglu_ffn=mlp == "swiglu",
            num_register_tokens=2,
            layer_norm_eps=1e-6,
            attn_implementation="sdpa",
        )
    )
    layer = "encoder.encoder.layer.*"
    first, second = (("gate_proj", "up_proj"), "down_proj") if mlp == "swiglu" else (("fc1",), "fc2")
    parts = {"norm1": "norm1", "attn.proj": "attention.o_proj", "norm2": "norm2"}
    modules = encoder_names(layer, "attention", **parts, **{"mlp.fc2": f"mlp.{second}"})
    modules |= {
        "blocks.*.mlp.fc1": tuple(f"{layer}.mlp.{part}" for part in first),
        "patch_embed.proj": ("encoder.embeddings.patch_embeddings.projection",),
        "norm": ("encoder.layernorm",),
        "head": ("classifier",),
    }
    single = {
        "cls_token": "encoder.embeddings.cls_token",
        "reg_token": "encoder.embeddings.register_tokens",
        "pos_embed": "encoder.embeddings.position_embeddings",
        "blocks.*.ls1.gamma": f"{layer}.layer_scale1.lambda1",
        "blocks.*.ls2.gamma": f"{layer}.layer_scale2.lambda1",
    }
    peer = WithClassifier(without_mask_token(encoder), width=32, num_classes=7)
    assert_same(ViT(config).double(), peer, partial(rename_tensors, modules=modules, single=single), std=0.2, tol=1e-9)


@pytest.mark.parametrize("image_size", [16, (8, 20)])
def test_dinov3_is_equal(image_size: int | tuple[int, int], assert_same: Callable[..., None]) -> None:
    """The peer computes rotary positions in float32, hence the larger tolerance."""
    sizes = {**TINY, "image_size": image_size}
    config = ViTConfig(**sizes, gelu="erf", num_registers=2, layer_scale=1.0, position="rope", norm_eps=1e-5)
    encoder = transformers.DINOv3ViTModel(
        transformers.DINOv3ViTConfig(
            image_size=16,
            patch_size=4,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            num_register_tokens=2,
            key_bias=True,  # released models have none; with rotated keys, a bias changes the output
            attn_implementation="sdpa",
        )
    )
    layer = "encoder.model.layer.*"
    parts = {"norm1": "norm1", "attn.proj": "attention.o_proj", "norm2": "norm2"}
    modules = encoder_names(layer, "attention", **parts, **{"mlp.fc1": "mlp.up_proj", "mlp.fc2": "mlp.down_proj"})
    modules |= {
        "patch_embed.proj": ("encoder.embeddings.patch_embeddings",),
        "norm": ("encoder.norm",),
        "head": ("classifier",),
    }
    single = {
        "cls_token": "encoder.embeddings.cls_token",
        "reg_token": "encoder.embeddings.register_tokens",
        "blocks.*.ls1.gamma": f"{layer}.layer_scale1.lambda1",
        "blocks.*.ls2.gamma": f"{layer}.layer_scale2.lambda1",
    }
    peer = WithClassifier(without_mask_token(encoder), width=32, num_classes=7)
    assert_same(ViT(config), peer, partial(rename_tensors, modules=modules, single=single), std=0.1, tol=1e-4)


@pytest.mark.parametrize(
    ("form", "model", "config", "width", "heads"),
    [
        ("dinov3", "DINOv3ViTModel", "DINOv3ViTConfig", 1280, 20),  # H+
        ("dinov3", "DINOv3ViTModel", "DINOv3ViTConfig", 4096, 32),  # 7B
        ("siglip", "SiglipVisionModel", "SiglipVisionConfig", 1536, 16),  # giant-opt
        ("dinov2", "Dinov2Model", "Dinov2Config", 1536, 24),
        ("transformers", "ViTModel", "ViTConfig", 1280, 16),
    ],
)
def test_files_without_heads_have_those_of_the_published_models(
    form: str, model: str, config: str, width: int, heads: int
) -> None:
    sizes = dict[str, Any](image_size=32, patch_size=16, hidden_size=width, num_attention_heads=heads)
    with torch.device("meta"):
        values = getattr(transformers, config)(**sizes, num_hidden_layers=1)
        tensors = getattr(transformers, model)(values).state_dict()
    lineage = LINEAGES[form]
    assert lineage.infer_config(lineage.canonicalise(tensors), {}).num_heads == heads


def test_siglip_is_equal(assert_same: Callable[..., None]) -> None:
    config = ViTConfig(**TINY, gelu="tanh", pool="map")
    encoder = transformers.SiglipVisionModel(
        transformers.SiglipVisionConfig(
            image_size=16,
            patch_size=4,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            layer_norm_eps=1e-6,
            attn_implementation="sdpa",
        )
    )
    layer = "encoder.encoder.layers.*"
    parts = {"norm1": "layer_norm1", "attn.proj": "self_attn.out_proj", "norm2": "layer_norm2"}
    modules = encoder_names(layer, "self_attn", **parts, **{"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"})
    modules |= {
        "patch_embed.proj": ("encoder.embeddings.patch_embedding",),
        "norm": ("encoder.post_layernorm",),
        "head": ("classifier",),
        "pool.proj": ("encoder.head.attention.out_proj",),
        "pool.norm": ("encoder.head.layernorm",),
        "pool.mlp.fc1": ("encoder.head.mlp.fc1",),
        "pool.mlp.fc2": ("encoder.head.mlp.fc2",),
    }
    single = {"pool.latent": "encoder.head.probe"}

    def convert(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The peer's pooling has one matrix for q, k and v, Vitral's one for q and one for k and v."""
        remaining = dict(tensors)
        converted = {"pos_embed": remaining.pop("encoder.embeddings.position_embedding.weight")[None]}
        for kind in ("weight", "bias"):
            fused = remaining.pop(f"encoder.head.attention.in_proj_{kind}")
            converted[f"pool.q.{kind}"], converted[f"pool.kv.{kind}"] = fused[:32], fused[32:]
        return converted | rename_tensors(remaining, modules=modules, single=single)

    assert_same(ViT(config).double(), WithClassifier(encoder, width=32, num_classes=7), convert, std=0.2, tol=1e-9)
