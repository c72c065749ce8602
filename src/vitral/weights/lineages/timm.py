"""timm's format: Vision Transformers and hybrids; Vitral's own names are the same but for a few."""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vitral.models import blank_model
from vitral.vit import ViT
from vitral.vit_config import ViTConfig
from vitral.weights.lineages.lineage import Arrays, Lineage, counted, side_of, usual_heads, with_folded_cls
from vitral.weights.rows import Row

__all__ = ["TIMM"]

BACKBONE = "patch_embed.backbone."
HYBRIDS = (
    "timm computes a hybrid's ResNet with other epsilons (GroupNorm 1e-5, filters sqrt(var + 1e-8)) than the released "
    "code, whose numbers are used here"
)


def _recognises(arrays: Arrays) -> bool:
    return "patch_embed.proj.weight" in arrays and "blocks.0.attn.qkv.weight" in arrays


def _config(arrays: Arrays, settings: Mapping[str, Any]) -> ViTConfig:
    """What the shapes and a folder's `model_args` tell; numerics are timm's: epsilon 1e-6, its own resampling."""
    told = {**settings, **settings.get("model_args", {})}
    if "fc_norm.weight" in arrays:
        raise ValueError("this timm model is normed after pooling, which Vitral's are not: it cannot be read")
    width, inputs, p, q = arrays["patch_embed.proj.weight"].shape
    hybrid = f"{BACKBONE}stem.conv.weight" in arrays
    stages = tuple(
        counted(arrays, f"{BACKBONE}stages.{stage}.blocks.", ".conv1.weight")
        for stage in range(counted(arrays, f"{BACKBONE}stages.", ".blocks.0.conv1.weight"))
    )
    stride = 4 * 2 ** max(len(stages) - 1, 0) if hybrid else 1
    pool = "cls" if "cls_token" in arrays else "map" if "attn_pool.latent" in arrays else "gap"
    if "img_size" in told:
        size = told["img_size"]
        h, w = (size, size) if isinstance(size, int) else size
    else:
        positions = arrays.get("pos_embed")
        side = 14 if positions is None else side_of(positions.shape[1] - (pool == "cls"), name="pos_embed")
        h, w = side * p * stride, side * q * stride
    hidden = arrays["blocks.0.mlp.fc2.weight"].shape[1]
    return ViTConfig(
        image_size=h if h == w else (h, w),
        patch_size=p * stride if p == q else (p * stride, q * stride),
        channels=arrays[f"{BACKBONE}stem.conv.weight"].shape[1] if hybrid else inputs,
        stem_stages=stages if hybrid else None,
        stem_width=arrays[f"{BACKBONE}stem.conv.weight"].shape[0] if hybrid else 64,
        width=width,
        depth=counted(arrays, "blocks.", ".attn.qkv.weight"),
        num_heads=told.get("num_heads") or _heads(arrays, width),
        mlp_dim=hidden,
        num_classes=arrays["head.weight"].shape[0] if "head.weight" in arrays else 1000,
        pool=pool,
        num_registers=arrays["reg_token"].shape[1] if "reg_token" in arrays else 0,
        position="learned_1d" if "pos_embed" in arrays else "none",
        position_resample="timm",
        qk_norm="blocks.0.attn.q_norm.weight" in arrays,
        mlp="swiglu" if arrays["blocks.0.mlp.fc1.weight"].shape[0] == 2 * hidden else "gelu",
        gelu="tanh" if told.get("act_layer") == "gelu_tanh" else "erf",
        layer_scale=1.0 if "blocks.0.ls1.gamma" in arrays else None,
        representation_size=arrays["pre_logits.fc.weight"].shape[0] if "pre_logits.fc.weight" in arrays else None,
    )


def _heads(arrays: Arrays, width: int) -> int:
    """Attention heads: told by the width of a head where queries are normed, else the usual number."""
    normed = arrays.get("blocks.0.attn.q_norm.weight")
    return usual_heads(width) if normed is None else width // normed.shape[0]


def _tidied(arrays: Arrays) -> dict[str, Tensor]:
    """The arrays with what a form leaves out: a class token's position, a bias of queries, keys and values.

    A hybrid of a root alone has the root's layers without a name of their own.
    """
    found = {
        re.sub(rf"^{BACKBONE}(conv|norm)\.", rf"{BACKBONE}stem.\1.", name): array for name, array in arrays.items()
    }
    positions = found.get("pos_embed")
    if "cls_token" in found and positions is not None and math.isqrt(positions.shape[1]) ** 2 == positions.shape[1]:
        found["pos_embed"] = torch.cat([torch.zeros_like(positions[:, :1]), positions], dim=1)
    for name in [name for name in found if name.endswith("attn.qkv.weight")]:
        found.setdefault(name.replace("weight", "bias"), found[name].new_zeros(len(found[name])))
    return found


def _rows(c: ViTConfig) -> list[Row]:
    """Nearly every tensor has the same name."""
    names = {name: name.replace("pre_logits.0", "pre_logits.fc") for name in blank_model(c).state_dict()}
    return [Row(ours=name, theirs=(re.sub(r"^pool\.", "attn_pool.", theirs),)) for name, theirs in names.items()]


def _prepared(model: ViT) -> dict[str, Tensor]:
    return with_folded_cls(model) if model.config.num_registers else model.state_dict()


def _finished(arrays: dict[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """With registers, positions have no row for the class token; a hybrid's root may stand alone."""
    if config.num_registers and config.pool == "cls" and "pos_embed" in arrays:
        arrays["pos_embed"] = arrays["pos_embed"][:, 1:].contiguous()
    alone = rf"^{BACKBONE}stem\." if config.stem_stages == () else r"(?!)"
    return {re.sub(alone, BACKBONE, name): array for name, array in arrays.items()}


TIMM = Lineage(
    name="timm",
    recognises=_recognises,
    config=_config,
    rows=_rows,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    tidied=_tidied,
    prepared=_prepared,
    finished=_finished,
    positions=("learned_1d", "none"),
    caveats=lambda config: [] if config.stem_stages is None else [HYBRIDS],
)
