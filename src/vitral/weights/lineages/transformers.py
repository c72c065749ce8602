"""transformers' formats: ViT and DeiT with old and new names, DINOv2 with and without registers, DINOv3."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from vitral.errors import UserError
from vitral.vit_config import ViTConfig
from vitral.weights.lineages.lineage import Lineage, Tensors, count_indices, default_num_heads, grid_side
from vitral.weights.mapping import TensorMapping

__all__ = ["DINOV2", "DINOV3", "TRANSFORMERS"]

RENAMES = {
    r"\bencoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.": r"layers.\1.attention.\2.",
    r"\bencoder\.layer\.(\d+)\.attention\.output\.dense\.": r"layers.\1.attention.o_proj.",
    r"\bencoder\.layer\.(\d+)\.intermediate\.dense\.": r"layers.\1.mlp.fc1.",
    r"\bencoder\.layer\.(\d+)\.output\.dense\.": r"layers.\1.mlp.fc2.",
    r"\bencoder\.layer\.": "layers.",
    r"\.query\.": ".q_proj.",
    r"\.key\.": ".k_proj.",
    r"\.value\.": ".v_proj.",
}
"""Names of older versions, and of DINOv2, as newer versions of ViT have them."""

VIT_BLOCK = {"norm1": "layernorm_before", "norm2": "layernorm_after", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
DINO_BLOCK = {"norm1": "norm1", "norm2": "norm2", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
DINO_GATED_BLOCK = {"norm1": "norm1", "norm2": "norm2", "mlp.fc2": "mlp.down_proj"}


def _canonicalise(tensors: Tensors, *, prefixes: str) -> dict[str, Tensor]:
    """Strips prefixes and applies `RENAMES`."""
    renamed = {}
    for name, tensor in tensors.items():
        new_name = re.sub(prefixes, "", name)
        for old, new in RENAMES.items():
            new_name = re.sub(old, new, new_name)
        renamed[new_name] = tensor
    return renamed


def _matches(tensors: Tensors, *, norm: str) -> bool:
    return "embeddings.position_embeddings" in tensors and f"layers.0.{norm}.weight" in tensors


def _num_heads(tensors: Tensors, upstream_config: Mapping[str, Any]) -> int | None:
    return upstream_config.get("num_attention_heads")


def _gelu(upstream_config: Mapping[str, Any]) -> Literal["tanh", "erf"]:
    return (
        "tanh"
        if "tanh" in str(upstream_config.get("hidden_act")) or upstream_config.get("hidden_act") == "gelu_new"
        else "erf"
    )


def _infer_config(tensors: Tensors, upstream_config: Mapping[str, Any], *, norm_eps: float) -> ViTConfig:
    """Sizes come from the shapes and `config.json`."""
    width, channels, p, q = tensors["embeddings.patch_embeddings.projection.weight"].shape
    distilled, positions = "embeddings.distillation_token" in tensors, tensors.get("embeddings.position_embeddings")
    size = upstream_config.get("image_size")
    if positions is not None and not isinstance(size, list):
        side = grid_side(positions.shape[1] - 1 - distilled, name="embeddings.position_embeddings")
        size = [side * p, side * q]
    elif not isinstance(size, list):
        size = [size or 14 * p] * 2
    gated = "layers.0.mlp.gate_proj.weight" in tensors
    hidden = tensors[f"layers.0.mlp.{'gate_proj' if gated else 'fc1'}.weight"].shape[0]
    head, registers = tensors.get("classifier.weight"), tensors.get("embeddings.register_tokens")
    if head is not None and head.shape[1] != width:
        raise UserError(
            "the classifier reads the class token and the mean of the patches, which Vitral does not support: "
            "load the encoder without it"
        )
    return ViTConfig(
        image_size=size[0] if size[0] == size[1] else (size[0], size[1]),
        patch_size=p if p == q else (p, q),
        channels=channels,
        width=width,
        depth=count_indices(tensors, "layers.", ".attention.q_proj.weight"),
        num_heads=_num_heads(tensors, upstream_config) or default_num_heads(width),
        mlp_dim=hidden,
        num_classes=1000 if head is None else head.shape[0],
        distillation=distilled,
        num_registers=0 if registers is None else registers.shape[1],
        position="rope" if positions is None else "learned_1d",
        position_resample="huggingface",
        mlp="swiglu" if gated else "gelu",
        gelu=_gelu(upstream_config),
        norm_eps=upstream_config.get("layer_norm_eps", norm_eps),
        layer_scale=1.0 if "layers.0.layer_scale1.lambda1" in tensors else None,
    )


def _mapping(c: ViTConfig) -> list[TensorMapping]:
    dino = c.layer_scale is not None
    modules = DINO_GATED_BLOCK if c.mlp == "swiglu" else DINO_BLOCK if dino else VIT_BLOCK
    names: dict[str, tuple[str, ...]] = {
        "patch_embed.proj": ("embeddings.patch_embeddings.projection",),
        "norm": ("layernorm",),
    }
    mapping = [TensorMapping("cls_token", ("embeddings.cls_token",))]
    if c.position == "learned_1d":
        mapping.append(TensorMapping("pos_embed", ("embeddings.position_embeddings",)))
    if c.distillation:
        mapping.append(TensorMapping("dist_token", ("embeddings.distillation_token",)))
    if c.num_registers:
        mapping.append(TensorMapping("reg_token", ("embeddings.register_tokens",)))
    for index in range(c.depth):
        block, layer = f"blocks.{index}.", f"layers.{index}."
        names |= {block + part: (layer + upstream,) for part, upstream in modules.items()}
        names[f"{block}attn.qkv"] = tuple(f"{layer}attention.{part}_proj" for part in "qkv")
        names[f"{block}attn.proj"] = (f"{layer}attention.o_proj",)
        if c.mlp == "swiglu":
            names[f"{block}mlp.fc1"] = (f"{layer}mlp.gate_proj", f"{layer}mlp.up_proj")
        if dino:
            mapping += [TensorMapping(f"{block}ls{k}.gamma", (f"{layer}layer_scale{k}.lambda1",)) for k in (1, 2)]
    names |= {"head": ("classifier",)} | ({"head.dist": ("distillation_classifier",)} if c.distillation else {})
    for name, upstream in names.items():
        for kind in ("weight", "bias"):
            mapping.append(TensorMapping(f"{name}.{kind}", tuple(f"{part}.{kind}" for part in upstream)))
    return mapping


def _vit_finalise(tensors: dict[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """Adds the prefixes of `ViTForImageClassification`, or of DeiT with two classifiers for a distilled model."""
    if not config.distillation:
        return {name if name.startswith("classifier.") else f"vit.{name}": tensor for name, tensor in tensors.items()}
    return {
        f"cls_{name}" if name.startswith("classifier.") else name if "classifier" in name else f"deit.{name}": tensor
        for name, tensor in tensors.items()
    }


def _dino_finalise(tensors: dict[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """Tensors of the encoder: the upstream classifier reads more than the class token, so the head is left out."""
    return {
        re.sub(r"^layers\.", "encoder.layer.", name): tensor
        for name, tensor in tensors.items()
        if not name.startswith("classifier.")
    }


TRANSFORMERS = Lineage(
    name="transformers",
    matches=partial(_matches, norm="layernorm_before"),
    infer_config=partial(_infer_config, norm_eps=1e-12),
    mapping=_mapping,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    num_heads=_num_heads,
    canonicalise=partial(_canonicalise, prefixes=r"^(vit|deit)\.|^cls_(?=classifier)"),
    ignore=r"^pooler\.|mask_token$",
    finalise=_vit_finalise,
)
"""`ViTModel` and `ViTForImageClassification`, `DeiTModel` and `DeiTForImageClassificationWithTeacher`."""
DINOV2 = Lineage(
    name="dinov2",
    matches=partial(_matches, norm="norm1"),
    infer_config=partial(_infer_config, norm_eps=1e-6),
    mapping=_mapping,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    num_heads=_num_heads,
    canonicalise=partial(_canonicalise, prefixes=r"^dinov2(_with_registers)?\."),
    ignore=r"mask_token$",
    finalise=_dino_finalise,
)
"""`Dinov2Model` and `Dinov2WithRegistersModel`."""


def _dino3_canonicalise(tensors: Tensors) -> dict[str, Tensor]:
    """Renames DINOv3's tensors as DINOv2's, and adds a key bias of zero."""
    renamed = {}
    for name, tensor in tensors.items():
        new_name = re.sub(r"^(dinov3_vit\.)?(model\.)?layer\.", "layers.", name)
        new_name = re.sub(r"^norm\.", "layernorm.", new_name)
        renamed[new_name.replace("patch_embeddings.", "patch_embeddings.projection.")] = tensor
    if not any(".gate_proj." in name for name in renamed):
        mlp_names = {".up_proj.": ".fc1.", ".down_proj.": ".fc2."}
        renamed = {
            re.sub(r"\.(up|down)_proj\.", lambda m: mlp_names[m[0]], name): tensor for name, tensor in renamed.items()
        }
    for name in [name for name in renamed if name.endswith(".q_proj.bias")]:
        renamed[name.replace("q_proj", "k_proj")] = torch.zeros_like(renamed[name])
    return renamed


def _dino3_finalise(tensors: dict[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """Tensors of the encoder.

    Raises:
        UserError: the model's keys have a bias, which the format cannot store.
    """
    if any(tensor.any() for name, tensor in tensors.items() if name.endswith(".k_proj.bias")):
        raise UserError("the format dinov3 cannot store a key bias, and this model has one")
    renames = {
        r"^layers\.": "model.layer.",
        r"^layernorm\.": "norm.",
        r"patch_embeddings\.projection\.": "patch_embeddings.",
        r"\.mlp\.fc1\.": ".mlp.up_proj.",
        r"\.mlp\.fc2\.": ".mlp.down_proj.",
    }
    encoder = {}
    for name, tensor in tensors.items():
        for pattern, new in renames.items():
            name = re.sub(pattern, new, name)
        if not name.endswith(".k_proj.bias") and not name.startswith("classifier."):
            encoder[name] = tensor
    return encoder


def _dino3_config(tensors: Tensors, upstream_config: Mapping[str, Any]) -> ViTConfig:
    if "layers.0.mlp.gate_proj.weight" in tensors and upstream_config.get("hidden_act", "silu") != "silu":
        raise UserError(f"the gate of its MLP is {upstream_config['hidden_act']}, and Vitral supports only silu")
    return _infer_config(tensors, upstream_config, norm_eps=1e-5)


DINOV3 = Lineage(
    name="dinov3",
    matches=lambda tensors: (
        "embeddings.patch_embeddings.projection.weight" in tensors
        and "embeddings.position_embeddings" not in tensors
        and "layers.0.norm1.weight" in tensors
    ),
    infer_config=_dino3_config,
    mapping=_mapping,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    num_heads=_num_heads,
    canonicalise=_dino3_canonicalise,
    positions=("rope",),
    ignore=r"mask_token$",
    finalise=_dino3_finalise,
)
"""`DINOv3ViTModel`."""
