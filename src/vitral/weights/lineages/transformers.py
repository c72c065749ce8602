"""transformers' formats: ViT in both generations of names, and DINOv2 with registers or without."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

from torch import Tensor

from vitral.vit_config import ViTConfig
from vitral.weights.lineages.lineage import Arrays, Lineage, counted, side_of, usual_heads
from vitral.weights.rows import Row

__all__ = ["DINOV2", "TRANSFORMERS"]

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
    return "embeddings.patch_embeddings.projection.weight" in arrays and f"layers.0.{norm}.weight" in arrays


def _gelu(settings: Mapping[str, Any]) -> Literal["tanh", "erf"]:
    return "tanh" if "tanh" in str(settings.get("hidden_act")) or settings.get("hidden_act") == "gelu_new" else "erf"


def _config(arrays: Arrays, settings: Mapping[str, Any], *, norm_eps: float) -> ViTConfig:
    """What the shapes and its `config.json` tell."""
    width, channels, p, q = arrays["embeddings.patch_embeddings.projection.weight"].shape
    size = settings.get("image_size")
    if not isinstance(size, list):
        positions = "embeddings.position_embeddings"
        size = [side_of(arrays[positions].shape[1] - 1, name=positions) * side for side in (p, q)]
    gated = "layers.0.mlp.gate_proj.weight" in arrays
    hidden = arrays[f"layers.0.mlp.{'gate_proj' if gated else 'fc1'}.weight"].shape[0]
    head, registers = arrays.get("classifier.weight"), arrays.get("embeddings.register_tokens")
    if head is not None and head.shape[1] != width:
        raise ValueError("this classifier reads the class token beside the mean of the patches: read the encoder alone")
    return ViTConfig(
        image_size=size[0] if size[0] == size[1] else (size[0], size[1]),
        patch_size=p if p == q else (p, q),
        channels=channels,
        width=width,
        depth=counted(arrays, "layers.", ".attention.q_proj.weight"),
        num_heads=settings.get("num_attention_heads") or usual_heads(width),
        mlp_dim=hidden,
        num_classes=1000 if head is None else head.shape[0],
        num_registers=0 if registers is None else registers.shape[1],
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
    rows = [
        Row(ours="cls_token", theirs=("embeddings.cls_token",)),
        Row(ours="pos_embed", theirs=("embeddings.position_embeddings",)),
    ]
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
    names["head"] = ("classifier",)
    for own, theirs in names.items():
        for kind in ("weight", "bias"):
            rows.append(Row(ours=f"{own}.{kind}", theirs=tuple(f"{part}.{kind}" for part in theirs)))
    return rows


def _vit_names(arrays: dict[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    return {name if name.startswith("classifier.") else f"vit.{name}": array for name, array in arrays.items()}


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
    tidied=partial(_tidied, prefixes=r"^vit\."),
    spare=r"^pooler\.|mask_token$",
    finished=_vit_names,
)
"""`ViTModel` and `ViTForImageClassification`."""
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
