"""transformers' formats: ViT and DeiT in both generations of names, DINOv2 with registers or without, DINOv3."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from vitral.errors import UserError
from vitral.vit_config import ViTConfig
from vitral.weights.lineages.lineage import Arrays, Lineage, counted, side_of, usual_heads
from vitral.weights.mapping import Row

__all__ = ["DINOV2", "DINOV3", "TRANSFORMERS"]

OLDER = {
    r"\bencoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.": r"layers.\1.attention.\2.",
    r"\bencoder\.layer\.(\d+)\.attention\.output\.dense\.": r"layers.\1.attention.o_proj.",
    r"\bencoder\.layer\.(\d+)\.intermediate\.dense\.": r"layers.\1.mlp.fc1.",
    r"\bencoder\.layer\.(\d+)\.output\.dense\.": r"layers.\1.mlp.fc2.",
    r"\bencoder\.layer\.": "layers.",
    r"\.query\.": ".q_proj.",
    r"\.key\.": ".k_proj.",
    r"\.value\.": ".v_proj.",
}
"""An earlier generation's names, and DINOv2's, as the later ones."""

VIT_PARTS = {"norm1": "layernorm_before", "norm2": "layernorm_after", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
DINO_PARTS = {"norm1": "norm1", "norm2": "norm2", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
GATED = {"norm1": "norm1", "norm2": "norm2", "mlp.fc2": "mlp.down_proj"}


def _tidied(arrays: Arrays, *, prefixes: str) -> dict[str, Tensor]:
    """The encoder's names without a prefix, of the later generation."""
    found = {}
    for name, array in arrays.items():
        plain = re.sub(prefixes, "", name)
        for old, new in OLDER.items():
            plain = re.sub(old, new, plain)
        found[plain] = array
    return found


def _recognises(arrays: Arrays, *, norm: str) -> bool:
    return "embeddings.position_embeddings" in arrays and f"layers.0.{norm}.weight" in arrays


def _gelu(settings: Mapping[str, Any]) -> Literal["tanh", "erf"]:
    return "tanh" if "tanh" in str(settings.get("hidden_act")) or settings.get("hidden_act") == "gelu_new" else "erf"


def _config(arrays: Arrays, settings: Mapping[str, Any], *, norm_eps: float) -> ViTConfig:
    """What the shapes and its `config.json` tell."""
    width, channels, p, q = arrays["embeddings.patch_embeddings.projection.weight"].shape
    distilled, positions = "embeddings.distillation_token" in arrays, arrays.get("embeddings.position_embeddings")
    size = settings.get("image_size")
    if positions is not None and not isinstance(size, list):
        side = side_of(positions.shape[1] - 1 - distilled, name="embeddings.position_embeddings")
        size = [side * p, side * q]
    elif not isinstance(size, list):
        size = [size or 14 * p] * 2
    gated = "layers.0.mlp.gate_proj.weight" in arrays
    hidden = arrays[f"layers.0.mlp.{'gate_proj' if gated else 'fc1'}.weight"].shape[0]
    head, registers = arrays.get("classifier.weight"), arrays.get("embeddings.register_tokens")
    if head is not None and head.shape[1] != width:
        raise UserError("this classifier reads the class token beside the mean of the patches: read the encoder alone")
    return ViTConfig(
        image_size=size[0] if size[0] == size[1] else (size[0], size[1]),
        patch_size=p if p == q else (p, q),
        channels=channels,
        width=width,
        depth=counted(arrays, "layers.", ".attention.q_proj.weight"),
        num_heads=settings.get("num_attention_heads") or usual_heads(width),
        mlp_dim=hidden,
        num_classes=1000 if head is None else head.shape[0],
        distillation=distilled,
        num_registers=0 if registers is None else registers.shape[1],
        position="rope" if positions is None else "learned_1d",
        position_resample="huggingface",
        mlp="swiglu" if gated else "gelu",
        gelu=_gelu(settings),
        norm_eps=settings.get("layer_norm_eps", norm_eps),
        layer_scale=1.0 if "layers.0.layer_scale1.lambda1" in arrays else None,
    )


def _rows(c: ViTConfig) -> list[Row]:
    dino = c.layer_scale is not None
    parts = GATED if c.mlp == "swiglu" else DINO_PARTS if dino else VIT_PARTS
    names: dict[str, tuple[str, ...]] = {
        "patch_embed.proj": ("embeddings.patch_embeddings.projection",),
        "norm": ("layernorm",),
    }
    rows = [Row(ours="cls_token", theirs=("embeddings.cls_token",))]
    if c.position == "learned_1d":
        rows.append(Row(ours="pos_embed", theirs=("embeddings.position_embeddings",)))
    if c.distillation:
        rows.append(Row(ours="dist_token", theirs=("embeddings.distillation_token",)))
    if c.num_registers:
        rows.append(Row(ours="reg_token", theirs=("embeddings.register_tokens",)))
    for index in range(c.depth):
        own, theirs = f"blocks.{index}.", f"layers.{index}."
        names |= {own + part: (theirs + other,) for part, other in parts.items()}
        names[f"{own}attn.qkv"] = tuple(f"{theirs}attention.{part}_proj" for part in "qkv")
        names[f"{own}attn.proj"] = (f"{theirs}attention.o_proj",)
        if c.mlp == "swiglu":
            names[f"{own}mlp.fc1"] = (f"{theirs}mlp.gate_proj", f"{theirs}mlp.up_proj")
        if dino:
            rows += [Row(ours=f"{own}ls{k}.gamma", theirs=(f"{theirs}layer_scale{k}.lambda1",)) for k in (1, 2)]
    names |= {"head": ("classifier",)} | ({"head.dist": ("distillation_classifier",)} if c.distillation else {})
    for own, theirs in names.items():
        for kind in ("weight", "bias"):
            rows.append(Row(ours=f"{own}.{kind}", theirs=tuple(f"{part}.{kind}" for part in theirs)))
    return rows


def _vit_names(arrays: dict[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """A model that was distilled is a DeiT there, with two classifiers."""
    if not config.distillation:
        return {name if name.startswith("classifier.") else f"vit.{name}": array for name, array in arrays.items()}
    return {
        f"cls_{name}" if name.startswith("classifier.") else name if "classifier" in name else f"deit.{name}": array
        for name, array in arrays.items()
    }


def _dino_names(arrays: dict[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """Those of the encoder alone, whose head reads more than the class token."""
    return {
        re.sub(r"^layers\.", "encoder.layer.", name): array
        for name, array in arrays.items()
        if not name.startswith("classifier.")
    }


TRANSFORMERS = Lineage(
    name="transformers",
    recognises=partial(_recognises, norm="layernorm_before"),
    config=partial(_config, norm_eps=1e-12),
    rows=_rows,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    tidied=partial(_tidied, prefixes=r"^(vit|deit)\.|^cls_(?=classifier)"),
    spare=r"^pooler\.|mask_token$",
    finished=_vit_names,
)
"""`ViTModel` and `ViTForImageClassification`, `DeiTModel` and `DeiTForImageClassificationWithTeacher`."""
DINOV2 = Lineage(
    name="dinov2",
    recognises=partial(_recognises, norm="norm1"),
    config=partial(_config, norm_eps=1e-6),
    rows=_rows,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    tidied=partial(_tidied, prefixes=r"^dinov2(_with_registers)?\."),
    spare=r"mask_token$",
    finished=_dino_names,
)
"""`Dinov2Model` and `Dinov2WithRegistersModel`; their classifiers read more than Vitral's head does."""


def _dino3_tidied(arrays: Arrays) -> dict[str, Tensor]:
    """DINOv3's arrays under the names of DINOv2, with a bias of keys that is zero."""
    found = {}
    for name, array in arrays.items():
        plain = re.sub(r"^(dinov3_vit\.)?(model\.)?layer\.", "layers.", name)
        plain = re.sub(r"^norm\.", "layernorm.", plain)
        found[plain.replace("patch_embeddings.", "patch_embeddings.projection.")] = array
    if not any(".gate_proj." in name for name in found):
        plain_mlp = {".up_proj.": ".fc1.", ".down_proj.": ".fc2."}
        found = {re.sub(r"\.(up|down)_proj\.", lambda m: plain_mlp[m[0]], name): array for name, array in found.items()}
    for name in [name for name in found if name.endswith(".q_proj.bias")]:
        found[name.replace("q_proj", "k_proj")] = torch.zeros_like(found[name])
    return found


def _dino3_names(arrays: dict[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """The encoder alone.

    Raises:
        UserError: its keys have a bias, which changes nothing that attention gives, but has no place.
    """
    if any(array.any() for name, array in arrays.items() if name.endswith(".k_proj.bias")):
        raise UserError("the format dinov3 has no place for a bias of keys, and this model has one")
    theirs = {
        r"^layers\.": "model.layer.",
        r"^layernorm\.": "norm.",
        r"patch_embeddings\.projection\.": "patch_embeddings.",
        r"\.mlp\.fc1\.": ".mlp.up_proj.",
        r"\.mlp\.fc2\.": ".mlp.down_proj.",
    }
    found = {}
    for name, array in arrays.items():
        for pattern, other in theirs.items():
            name = re.sub(pattern, other, name)
        if not name.endswith(".k_proj.bias") and not name.startswith("classifier."):
            found[name] = array
    return found


def _dino3_config(arrays: Arrays, settings: Mapping[str, Any]) -> ViTConfig:
    if "layers.0.mlp.gate_proj.weight" in arrays and settings.get("hidden_act", "silu") != "silu":
        raise UserError(f"its gate is {settings['hidden_act']}, and only silu is known here")
    return _config(arrays, settings, norm_eps=1e-5)


DINOV3 = Lineage(
    name="dinov3",
    recognises=lambda arrays: (
        "embeddings.patch_embeddings.projection.weight" in arrays
        and "embeddings.position_embeddings" not in arrays
        and "layers.0.norm1.weight" in arrays
    ),
    config=_dino3_config,
    rows=_rows,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    tidied=_dino3_tidied,
    positions=("rope",),
    spare=r"mask_token$",
    finished=_dino3_names,
)
"""`DINOv3ViTModel`."""
