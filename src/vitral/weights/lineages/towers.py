"""Image towers of models that read images and texts: CLIP and SigLIP in transformers' format, CLIP in OpenCLIP's.

Such a model's projection to the space that it shares with texts is the head, without a bias in CLIP. A file may hold
the text tower too, which is left out.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from vitral.errors import UserError
from vitral.vit_config import ViTConfig
from vitral.weights.lineages.lineage import CLIP_MEAN, CLIP_STD, Arrays, Lineage, counted, side_of, usual_heads
from vitral.weights.mapping import DENSE, Codec, Row

__all__ = ["CLIP", "OPEN_CLIP", "SIGLIP"]

VECTOR = Codec(lambda theirs: theirs[None, None], lambda ours: ours[0, 0])
"""A class token without the axes of batch and tokens."""
TABLE = Codec(lambda theirs: theirs[None], lambda ours: ours[0])
"""Positions without the axis of tables."""

TEXTS = r"^text_|^logit_|position_ids$"
"""What else is in files of transformers' models of images and texts."""
UNTOLD = (
    "these files do not tell their GELU: OpenAI's own weights need --gelu quick, OpenCLIP's the exact one taken here"
)

WHOLE = {"embeddings.patch_embedding": "patch_embed.proj", "pre_layrnorm": "norm_pre", "post_layernorm": "norm"}
LAYER = {
    "layer_norm1": "norm1",
    "self_attn.out_proj": "attn.proj",
    "layer_norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
HEAD = {
    "head.attention.out_proj": "pool.proj",
    "head.layernorm": "pool.norm",
    "head.mlp.fc1": "pool.mlp.fc1",
    "head.mlp.fc2": "pool.mlp.fc2",
    "head.attention.q": "pool.q",
    "head.attention.kv": "pool.kv",
}
OPEN_LAYER = {
    "ln_1": "norm1",
    "attn.out_proj": "attn.proj",
    "ln_2": "norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def _gelu(settings: Mapping[str, Any], usual: Literal["tanh", "erf", "quick"]) -> Literal["tanh", "erf", "quick"]:
    """The form that its `config.json` names."""
    told = settings.get("vision_config")
    name = str((told if isinstance(told, dict) else settings).get("hidden_act"))
    forms: dict[str, Literal["tanh", "erf", "quick"]] = {
        "gelu": "erf",
        "quick_gelu": "quick",
        "gelu_pytorch_tanh": "tanh",
        "gelu_new": "tanh",
    }
    return forms.get(name, usual)


def _heads(settings: Mapping[str, Any], width: int) -> int:
    told = settings.get("vision_config")
    count = (told if isinstance(told, dict) else settings).get("num_attention_heads") or settings.get("num_heads")
    return count or usual_heads(width)


def _tidied(arrays: Arrays) -> dict[str, Tensor]:
    return {re.sub(r"^vision_model\.", "", name): array for name, array in arrays.items()}


def _clip_config(arrays: Arrays, settings: Mapping[str, Any]) -> ViTConfig:
    """What the shapes and its `config.json` tell; OpenAI's GELU where that says nothing."""
    width, channels, p, q = arrays["embeddings.patch_embedding.weight"].shape
    side = side_of(len(arrays["embeddings.position_embedding.weight"]) - 1, name="embeddings.position_embedding")
    head = arrays.get("visual_projection.weight")
    return ViTConfig(
        image_size=(side * p, side * q) if p != q else side * p,
        patch_size=(p, q) if p != q else p,
        channels=channels,
        width=width,
        depth=counted(arrays, "encoder.layers.", ".layer_norm1.weight"),
        num_heads=_heads(settings, width),
        mlp_dim=len(arrays["encoder.layers.0.mlp.fc1.weight"]),
        num_classes=1000 if head is None else len(head),
        position_resample="huggingface",
        patch_bias=False,
        pre_norm=True,
        gelu=_gelu(settings, "quick"),
        norm_eps=1e-5,
        head_bias=None,
    )


def _siglip_config(arrays: Arrays, settings: Mapping[str, Any]) -> ViTConfig:
    """What the shapes and its `config.json` tell; there is no head, as texts meet the pooled vector itself."""
    width, channels, p, q = arrays["embeddings.patch_embedding.weight"].shape
    side = side_of(len(arrays["embeddings.position_embedding.weight"]), name="embeddings.position_embedding")
    return ViTConfig(
        image_size=(side * p, side * q) if p != q else side * p,
        patch_size=(p, q) if p != q else p,
        channels=channels,
        width=width,
        depth=counted(arrays, "encoder.layers.", ".layer_norm1.weight"),
        num_heads=_heads(settings, width),
        mlp_dim=len(arrays["encoder.layers.0.mlp.fc1.weight"]),
        pool="map",
        position_resample="huggingface",
        gelu=_gelu(settings, "tanh"),
        norm_eps=1e-6,
    )


def _rows(c: ViTConfig) -> list[Row]:
    names = {theirs: own for theirs, own in WHOLE.items() if c.pre_norm or own != "norm_pre"}
    rows = [Row(ours="pos_embed", theirs=("embeddings.position_embedding.weight",), codec=TABLE)]
    for index in range(c.depth):
        theirs, own = f"encoder.layers.{index}.", f"blocks.{index}."
        names |= {theirs + part: own + our_part for part, our_part in LAYER.items()}
        for kind in ("weight", "bias"):
            parts = tuple(f"{theirs}self_attn.{part}_proj.{kind}" for part in "qkv")
            rows.append(Row(ours=f"{own}attn.qkv.{kind}", theirs=parts))
    if c.pool == "map":
        names |= HEAD | {"classifier": "head"}
        rows.append(Row(ours="pool.latent", theirs=("head.probe",)))
    else:
        rows.append(Row(ours="cls_token", theirs=("embeddings.class_embedding",), codec=VECTOR))
        rows.append(Row(ours="head.weight", theirs=("visual_projection.weight",)))
    for theirs, own in names.items():
        kinds = ("weight", "bias") if c.patch_bias or own != "patch_embed.proj" else ("weight",)
        rows += [Row(ours=f"{own}.{kind}", theirs=(f"{theirs}.{kind}",)) for kind in kinds]
    return rows


def _with_parts(arrays: Arrays) -> dict[str, Tensor]:
    """SigLIP's arrays, the queries of its pooling apart from keys and values."""
    found = _tidied(arrays)
    for kind in ("weight", "bias"):
        if (whole := found.pop(f"head.attention.in_proj_{kind}", None)) is not None:
            width = len(whole) // 3
            found[f"head.attention.q.{kind}"], found[f"head.attention.kv.{kind}"] = whole[:width], whole[width:]
    return found


def _joined(arrays: dict[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """`SiglipVisionModel`, whose head pools; a classifier there would read the mean of the patches.

    Raises:
        UserError: the model does not pool by attention.
    """
    if config.pool != "map":
        raise UserError(f"the format siglip pools by attention, and this model has pool {config.pool}")
    for kind in ("weight", "bias"):
        parts = [arrays.pop(f"head.attention.{part}.{kind}") for part in ("q", "kv")]
        arrays[f"head.attention.in_proj_{kind}"] = torch.cat(parts)
    return {name: array for name, array in arrays.items() if not name.startswith("classifier.")}


def _clip_names(arrays: dict[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """`CLIPVisionModelWithProjection`, or `CLIPVisionModel` where there is no projection; both have this prefix."""
    return {name if name.startswith("visual_") else f"vision_model.{name}": array for name, array in arrays.items()}


def _open_rows(c: ViTConfig) -> list[Row]:
    names = {"ln_pre": "norm_pre", "ln_post": "norm"}
    rows = [
        Row(ours="patch_embed.proj.weight", theirs=("conv1.weight",)),
        Row(ours="cls_token", theirs=("class_embedding",), codec=VECTOR),
        Row(ours="pos_embed", theirs=("positional_embedding",), codec=TABLE),
        Row(ours="head.weight", theirs=("proj",), codec=DENSE),
    ]
    for index in range(c.depth):
        theirs, own = f"transformer.resblocks.{index}.", f"blocks.{index}."
        names |= {theirs + part: own + our_part for part, our_part in OPEN_LAYER.items()}
        for kind in ("weight", "bias"):
            rows.append(Row(ours=f"{own}attn.qkv.{kind}", theirs=(f"{theirs}attn.in_proj_{kind}",)))
    for theirs, own in names.items():
        rows += [Row(ours=f"{own}.{kind}", theirs=(f"{theirs}.{kind}",)) for kind in ("weight", "bias")]
    return rows


def _open_tidied(arrays: Arrays) -> dict[str, Tensor]:
    """The image tower's arrays alone, where there are both."""
    prefix = "visual."
    if not any(name.startswith(prefix) for name in arrays):
        return dict(arrays)
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _open_config(arrays: Arrays, settings: Mapping[str, Any]) -> ViTConfig:
    """What the shapes tell; a file does not say whether it has the exact GELU, as OpenCLIP's own, or OpenAI's."""
    width, channels, p, _ = arrays["conv1.weight"].shape
    told = settings.get("model_cfg")
    quick = bool(told.get("quick_gelu")) if isinstance(told, dict) else False
    return ViTConfig(
        image_size=side_of(len(arrays["positional_embedding"]) - 1, name="positional_embedding") * p,
        patch_size=p,
        channels=channels,
        width=width,
        depth=counted(arrays, "transformer.resblocks.", ".ln_1.weight"),
        num_heads=_heads(settings, width),
        mlp_dim=len(arrays["transformer.resblocks.0.mlp.c_fc.weight"]),
        num_classes=arrays["proj"].shape[1] if "proj" in arrays else 1000,
        position_resample="timm",
        patch_bias=False,
        pre_norm=True,
        gelu="quick" if quick else "erf",
        norm_eps=1e-5,
        head_bias=None,
    )


CLIP = Lineage(
    name="clip",
    recognises=lambda arrays: "pre_layrnorm.weight" in arrays,
    config=_clip_config,
    rows=_rows,
    mean=CLIP_MEAN,
    std=CLIP_STD,
    tidied=_tidied,
    spare=TEXTS,
    finished=_clip_names,
)
"""`CLIPModel`, `CLIPVisionModel` and `CLIPVisionModelWithProjection`."""
SIGLIP = Lineage(
    name="siglip",
    recognises=lambda arrays: "head.probe" in arrays and "embeddings.patch_embedding.weight" in arrays,
    config=_siglip_config,
    rows=_rows,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    tidied=_with_parts,
    spare=TEXTS + r"|^head\.(weight|bias)$",
    finished=_joined,
)
"""`SiglipModel` and `SiglipVisionModel`."""
OPEN_CLIP = Lineage(
    name="open_clip",
    recognises=lambda arrays: "conv1.weight" in arrays and "transformer.resblocks.0.ln_1.weight" in arrays,
    config=_open_config,
    rows=_open_rows,
    mean=CLIP_MEAN,
    std=CLIP_STD,
    tidied=_open_tidied,
    finished=lambda arrays, config: {f"visual.{name}": array for name, array in arrays.items()},
    caveats=lambda config: [UNTOLD] if config.gelu == "erf" else [],
)
"""OpenCLIP's `CLIP`, of which the image tower is read and written."""
