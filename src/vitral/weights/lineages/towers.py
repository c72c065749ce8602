"""Image towers of image-text models: CLIP and SigLIP in transformers' format, CLIP in OpenCLIP's.

CLIP's projection to the joint embedding space becomes the head, without a bias. The text tower is ignored.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from vitral.errors import UserError
from vitral.vit_config import ViTConfig
from vitral.weights.lineages.lineage import (
    CLIP_MEAN,
    CLIP_STD,
    Lineage,
    Tensors,
    count_indices,
    default_num_heads,
    grid_side,
)
from vitral.weights.mapping import TRANSPOSE, Layout, TensorMapping

__all__ = ["CLIP", "OPEN_CLIP", "SIGLIP"]

VECTOR = Layout(lambda upstream: upstream[None, None], lambda tensor: tensor[0, 0])
"""A class token without batch and token axes."""
UNBATCHED = Layout(lambda upstream: upstream[None], lambda tensor: tensor[0])
"""Positions without a batch axis."""

TEXT_TOWER = r"^text_|^logit_|position_ids$"
"""Other tensors in files of transformers' image-text models."""
UNKNOWN_GELU = (
    "the file does not store its GELU: the exact one is used, as in OpenCLIP; OpenAI's weights need "
    'vitral.load(..., gelu="quick")'
)

MODULES = {"embeddings.patch_embedding": "patch_embed.proj", "pre_layrnorm": "norm_pre", "post_layernorm": "norm"}
BLOCK_MODULES = {
    "layer_norm1": "norm1",
    "self_attn.out_proj": "attn.proj",
    "layer_norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
MAP_HEAD_MODULES = {
    "head.attention.out_proj": "pool.proj",
    "head.layernorm": "pool.norm",
    "head.mlp.fc1": "pool.mlp.fc1",
    "head.mlp.fc2": "pool.mlp.fc2",
    "head.attention.q": "pool.q",
    "head.attention.kv": "pool.kv",
}
OPEN_CLIP_BLOCK_MODULES = {
    "ln_1": "norm1",
    "attn.out_proj": "attn.proj",
    "ln_2": "norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def _vision_config(upstream_config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Configuration of the image tower."""
    vision = upstream_config.get("vision_config")
    return vision if isinstance(vision, dict) else upstream_config


def _gelu(
    upstream_config: Mapping[str, Any], default: Literal["tanh", "erf", "quick"]
) -> Literal["tanh", "erf", "quick"]:
    """GELU named in `config.json`, for the image tower if there are two."""
    name = str(_vision_config(upstream_config).get("hidden_act"))
    forms: dict[str, Literal["tanh", "erf", "quick"]] = {
        "gelu": "erf",
        "quick_gelu": "quick",
        "gelu_pytorch_tanh": "tanh",
        "gelu_new": "tanh",
    }
    return forms.get(name, default)


def _num_heads(tensors: Tensors, upstream_config: Mapping[str, Any]) -> int | None:
    return _vision_config(upstream_config).get("num_attention_heads") or upstream_config.get("num_heads")


def _canonicalise(tensors: Tensors) -> dict[str, Tensor]:
    return {re.sub(r"^vision_model\.", "", name): tensor for name, tensor in tensors.items()}


def _clip_config(tensors: Tensors, upstream_config: Mapping[str, Any]) -> ViTConfig:
    """Sizes come from the shapes and `config.json`; OpenAI's quick GELU is the default."""
    width, channels, p, q = tensors["embeddings.patch_embedding.weight"].shape
    side = grid_side(len(tensors["embeddings.position_embedding.weight"]) - 1, name="embeddings.position_embedding")
    head = tensors.get("visual_projection.weight")
    return ViTConfig(
        image_size=(side * p, side * q) if p != q else side * p,
        patch_size=(p, q) if p != q else p,
        channels=channels,
        width=width,
        depth=count_indices(tensors, "encoder.layers.", ".layer_norm1.weight"),
        num_heads=_num_heads(tensors, upstream_config) or default_num_heads(width),
        mlp_dim=len(tensors["encoder.layers.0.mlp.fc1.weight"]),
        num_classes=1000 if head is None else len(head),
        position_resample="huggingface",
        patch_bias=False,
        pre_norm=True,
        gelu=_gelu(upstream_config, "quick"),
        norm_eps=1e-5,
        head_bias=None,
    )


def _siglip_config(tensors: Tensors, upstream_config: Mapping[str, Any]) -> ViTConfig:
    """Sizes come from the shapes and `config.json`. There is no head: texts are compared with the pooled vector."""
    width, channels, p, q = tensors["embeddings.patch_embedding.weight"].shape
    side = grid_side(len(tensors["embeddings.position_embedding.weight"]), name="embeddings.position_embedding")
    return ViTConfig(
        image_size=(side * p, side * q) if p != q else side * p,
        patch_size=(p, q) if p != q else p,
        channels=channels,
        width=width,
        depth=count_indices(tensors, "encoder.layers.", ".layer_norm1.weight"),
        num_heads=_num_heads(tensors, upstream_config) or default_num_heads(width),
        mlp_dim=len(tensors["encoder.layers.0.mlp.fc1.weight"]),
        pool="map",
        position_resample="huggingface",
        gelu=_gelu(upstream_config, "tanh"),
        norm_eps=1e-6,
    )


def _mapping(c: ViTConfig) -> list[TensorMapping]:
    names = {upstream: name for upstream, name in MODULES.items() if c.pre_norm or name != "norm_pre"}
    mapping = [TensorMapping("pos_embed", ("embeddings.position_embedding.weight",), UNBATCHED)]
    for index in range(c.depth):
        layer, block = f"encoder.layers.{index}.", f"blocks.{index}."
        names |= {layer + upstream: block + name for upstream, name in BLOCK_MODULES.items()}
        for kind in ("weight", "bias"):
            parts = tuple(f"{layer}self_attn.{part}_proj.{kind}" for part in "qkv")
            mapping.append(TensorMapping(f"{block}attn.qkv.{kind}", parts))
    if c.pool == "map":
        names |= MAP_HEAD_MODULES | {"classifier": "head"}
        mapping.append(TensorMapping("pool.latent", ("head.probe",)))
    else:
        mapping.append(TensorMapping("cls_token", ("embeddings.class_embedding",), VECTOR))
        mapping.append(TensorMapping("head.weight", ("visual_projection.weight",)))
    for upstream, name in names.items():
        kinds = ("weight", "bias") if c.patch_bias or name != "patch_embed.proj" else ("weight",)
        mapping += [TensorMapping(f"{name}.{kind}", (f"{upstream}.{kind}",)) for kind in kinds]
    return mapping


def _siglip_canonicalise(tensors: Tensors) -> dict[str, Tensor]:
    """Splits the fused projection of SigLIP's pooling into queries, and keys with values."""
    split = _canonicalise(tensors)
    for kind in ("weight", "bias"):
        if (fused := split.pop(f"head.attention.in_proj_{kind}", None)) is not None:
            width = len(fused) // 3
            split[f"head.attention.q.{kind}"], split[f"head.attention.kv.{kind}"] = fused[:width], fused[width:]
    return split


def _siglip_finalise(tensors: dict[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """Tensors of `SiglipVisionModel`, which has no classifier.

    Raises:
        UserError: the model does not pool by attention.
    """
    if config.pool != "map":
        raise UserError(f"the format siglip needs attention pooling (pool map), and this model has pool {config.pool}")
    for kind in ("weight", "bias"):
        parts = [tensors.pop(f"head.attention.{part}.{kind}") for part in ("q", "kv")]
        tensors[f"head.attention.in_proj_{kind}"] = torch.cat(parts)
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("classifier.")}


def _clip_finalise(tensors: dict[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """Tensors of `CLIPVisionModelWithProjection`, or of `CLIPVisionModel` if there is no projection."""
    return {name if name.startswith("visual_") else f"vision_model.{name}": tensor for name, tensor in tensors.items()}


def _open_clip_mapping(c: ViTConfig) -> list[TensorMapping]:
    names = {"ln_pre": "norm_pre", "ln_post": "norm"}
    mapping = [
        TensorMapping("patch_embed.proj.weight", ("conv1.weight",)),
        TensorMapping("cls_token", ("class_embedding",), VECTOR),
        TensorMapping("pos_embed", ("positional_embedding",), UNBATCHED),
        TensorMapping("head.weight", ("proj",), TRANSPOSE),
    ]
    for index in range(c.depth):
        layer, block = f"transformer.resblocks.{index}.", f"blocks.{index}."
        names |= {layer + upstream: block + name for upstream, name in OPEN_CLIP_BLOCK_MODULES.items()}
        for kind in ("weight", "bias"):
            mapping.append(TensorMapping(f"{block}attn.qkv.{kind}", (f"{layer}attn.in_proj_{kind}",)))
    for upstream, name in names.items():
        mapping += [TensorMapping(f"{name}.{kind}", (f"{upstream}.{kind}",)) for kind in ("weight", "bias")]
    return mapping


def _open_clip_canonicalise(tensors: Tensors) -> dict[str, Tensor]:
    """Tensors of the image tower only, without its prefix."""
    prefix = "visual."
    if not any(name.startswith(prefix) for name in tensors):
        return dict(tensors)
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _open_clip_config(tensors: Tensors, upstream_config: Mapping[str, Any]) -> ViTConfig:
    """Sizes come from the shapes; the exact GELU, as in OpenCLIP, is the default."""
    width, channels, p, _ = tensors["conv1.weight"].shape
    model_cfg = upstream_config.get("model_cfg")
    quick = bool(model_cfg.get("quick_gelu")) if isinstance(model_cfg, dict) else False
    return ViTConfig(
        image_size=grid_side(len(tensors["positional_embedding"]) - 1, name="positional_embedding") * p,
        patch_size=p,
        channels=channels,
        width=width,
        depth=count_indices(tensors, "transformer.resblocks.", ".ln_1.weight"),
        num_heads=_num_heads(tensors, upstream_config) or default_num_heads(width),
        mlp_dim=len(tensors["transformer.resblocks.0.mlp.c_fc.weight"]),
        num_classes=tensors["proj"].shape[1] if "proj" in tensors else 1000,
        position_resample="timm",
        patch_bias=False,
        pre_norm=True,
        gelu="quick" if quick else "erf",
        norm_eps=1e-5,
        head_bias=None,
    )


CLIP = Lineage(
    name="clip",
    matches=lambda tensors: "pre_layrnorm.weight" in tensors,
    infer_config=_clip_config,
    mapping=_mapping,
    mean=CLIP_MEAN,
    std=CLIP_STD,
    num_heads=_num_heads,
    config_section=_vision_config,
    canonicalise=_canonicalise,
    ignore=TEXT_TOWER,
    finalise=_clip_finalise,
)
"""`CLIPModel`, `CLIPVisionModel` and `CLIPVisionModelWithProjection`."""
SIGLIP = Lineage(
    name="siglip",
    matches=lambda tensors: "head.probe" in tensors and "embeddings.patch_embedding.weight" in tensors,
    infer_config=_siglip_config,
    mapping=_mapping,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    num_heads=_num_heads,
    config_section=_vision_config,
    canonicalise=_siglip_canonicalise,
    ignore=TEXT_TOWER + r"|^head\.(weight|bias)$",
    finalise=_siglip_finalise,
)
"""`SiglipModel` and `SiglipVisionModel`."""
OPEN_CLIP = Lineage(
    name="open_clip",
    matches=lambda tensors: "conv1.weight" in tensors and "transformer.resblocks.0.ln_1.weight" in tensors,
    infer_config=_open_clip_config,
    mapping=_open_clip_mapping,
    mean=CLIP_MEAN,
    std=CLIP_STD,
    num_heads=_num_heads,
    config_section=_vision_config,
    canonicalise=_open_clip_canonicalise,
    finalise=lambda tensors, config: {f"visual.{name}": tensor for name, tensor in tensors.items()},
    caveats=lambda config: [UNKNOWN_GELU] if config.gelu == "erf" else [],
)
"""Image tower of OpenCLIP's `CLIP`."""
