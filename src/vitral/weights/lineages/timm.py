"""timm's format: Vision Transformers and hybrids; Vitral's own names are the same but for a few."""

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from vitral.errors import UserError
from vitral.models import blank_model
from vitral.vit import ViT
from vitral.vit_config import ViTConfig
from vitral.weights.lineages.lineage import Arrays, Lineage, counted, side_of, usual_heads, with_folded_cls
from vitral.weights.mapping import Row

__all__ = ["TIMM"]

BACKBONE = "patch_embed.backbone."
GAMMA = "blocks.0.gamma_1"
HYBRIDS = (
    "timm computes a hybrid's ResNet with other epsilons (GroupNorm 1e-5, filters sqrt(var + 1e-8)) than the released "
    "code, whose numbers are used here"
)


def _recognises(arrays: Arrays) -> bool:
    return "patch_embed.proj.weight" in arrays and "blocks.0.attn.qkv.weight" in arrays


def _config(arrays: Arrays, settings: Mapping[str, Any]) -> ViTConfig:
    """What the shapes and a folder's `model_args` tell; numerics are timm's: epsilon 1e-6, its own resampling."""
    told = {**settings, **settings.get("model_args", {})}
    width, inputs, p, q = arrays["patch_embed.proj.weight"].shape
    hybrid = f"{BACKBONE}stem.conv.weight" in arrays
    stages = tuple(
        counted(arrays, f"{BACKBONE}stages.{stage}.blocks.", ".conv1.weight")
        for stage in range(counted(arrays, f"{BACKBONE}stages.", ".blocks.0.conv1.weight"))
    )
    stride = 4 * 2 ** max(len(stages) - 1, 0) if hybrid else 1
    pool = "cls" if "cls_token" in arrays else "map" if "attn_pool.latent" in arrays else "gap"
    distilled, rope = "dist_token" in arrays, GAMMA in arrays and "pos_embed" not in arrays
    if "img_size" in told:
        size = told["img_size"]
        h, w = (size, size) if isinstance(size, int) else size
    else:
        positions, prefix = arrays.get("pos_embed"), (pool == "cls") + distilled
        side = 14 if positions is None else side_of(positions.shape[1] - prefix, name="pos_embed")
        h, w = side * p * stride, side * q * stride
    hidden = arrays["blocks.0.mlp.fc2.weight"].shape[1]
    clip = "norm_pre.weight" in arrays
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
        distillation=distilled,
        num_registers=arrays["reg_token"].shape[1] if "reg_token" in arrays else 0,
        position="learned_1d" if "pos_embed" in arrays else "rope" if rope else "none",
        position_resample="timm",
        qk_norm="blocks.0.attn.q_norm.weight" in arrays,
        qkv_bias="blocks.0.attn.qkv.bias" in arrays,
        patch_bias="patch_embed.proj.bias" in arrays,
        pre_norm=clip,
        pooled_norm="fc_norm.weight" in arrays,
        mlp="swiglu" if arrays["blocks.0.mlp.fc1.weight"].shape[0] == 2 * hidden else "gelu",
        gelu=_gelu(told),
        norm_eps=1e-5 if clip or rope else 1e-6,
        layer_scale=1.0 if "blocks.0.ls1.gamma" in arrays or GAMMA in arrays else None,
        representation_size=arrays["pre_logits.fc.weight"].shape[0] if "pre_logits.fc.weight" in arrays else None,
    )


def _gelu(told: Mapping[str, Any]) -> Literal["tanh", "erf", "quick"]:
    """The form that the folder's configuration names; the exact one where it says nothing."""
    forms: dict[str, Literal["tanh", "quick"]] = {"gelu_tanh": "tanh", "quick_gelu": "quick"}
    return "quick" if "quickgelu" in str(told.get("architecture")) else forms.get(str(told.get("act_layer")), "erf")


def _heads(arrays: Arrays, width: int) -> int:
    """Attention heads: told by the width of a head where queries are normed, else the usual number."""
    normed = arrays.get("blocks.0.attn.q_norm.weight")
    return usual_heads(width) if normed is None else width // normed.shape[0]


def _tidied(arrays: Arrays) -> dict[str, Tensor]:
    """The arrays in the one form that the table has.

    A hybrid of a root alone has the root's layers without a name of their own. A class token that nothing reads, as
    the mean of the patches is taken, is a register that has a position. Positions may lack the class token's row, and
    the two layers of a gated MLP, or the biases of queries and values, may stand apart.
    """
    found = {
        re.sub(rf"^{BACKBONE}(conv|norm)\.", rf"{BACKBONE}stem.\1.", name): array for name, array in arrays.items()
    }
    rope = GAMMA in found and "pos_embed" not in found
    if "cls_token" in found and ("fc_norm.weight" in found or (rope and "head.weight" in found)):
        found["reg_token"] = torch.cat([found.pop("cls_token"), *_optional(found, "reg_token")], dim=1)
    positions = found.get("pos_embed")
    if "reg_token" in found and "cls_token" not in found and positions is not None:
        side = math.isqrt(positions.shape[1])
        own = positions[:, : positions.shape[1] - side * side]
        with_position, others = found["reg_token"].tensor_split([own.shape[1]], dim=1)
        found["reg_token"] = torch.cat([with_position + own, others], dim=1)
        found["pos_embed"] = positions = positions[:, own.shape[1] :]
    if "cls_token" in found and positions is not None and math.isqrt(positions.shape[1]) ** 2 == positions.shape[1]:
        found["pos_embed"] = torch.cat([torch.zeros_like(positions[:, :1]), positions], dim=1)
    for gate in [name for name in found if ".mlp.fc1_g." in name]:
        value = gate.replace("fc1_g", "fc1_x")
        found[gate.replace("fc1_g", "fc1")] = torch.cat([found.pop(gate), found.pop(value)])
    for own in [name for name in found if name.endswith(".attn.q_bias")]:
        query, value = found.pop(own), found.pop(own.replace("q_bias", "v_bias"))
        found[own.replace("q_bias", "qkv.bias")] = torch.cat([query, torch.zeros_like(query), value])
    return found


def _optional(found: Mapping[str, Tensor], name: str) -> list[Tensor]:
    return [found[name]] if name in found else []


def _rows(c: ViTConfig) -> list[Row]:
    """Nearly every tensor has the same name."""
    theirs = {r"^pool\.": "attn_pool.", r"^pre_logits\.0\.": "pre_logits.fc.", r"^head\.dist\.": "head_dist."}
    if c.position == "rope":  # timm has these as another kind of model
        theirs |= {r"\.ls(\d)\.gamma$": r".gamma_\1"}
    rows = []
    for name in blank_model(c).state_dict():
        their_name = name
        for pattern, other in theirs.items():
            their_name = re.sub(pattern, other, their_name)
        rows.append(Row(ours=name, theirs=(their_name,)))
    return rows


def _prepared(model: ViT) -> dict[str, Tensor]:
    return with_folded_cls(model) if model.config.num_registers else model.state_dict()


def _finished(arrays: dict[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """With registers, positions have no row for the class token; a hybrid's root may stand alone."""
    if config.position == "rope":
        return _rotary(arrays, config)
    if config.num_registers and config.pool == "cls" and "pos_embed" in arrays:
        arrays["pos_embed"] = arrays["pos_embed"][:, 1:].contiguous()
    alone = rf"^{BACKBONE}stem\." if config.stem_stages == () else r"(?!)"
    return {re.sub(alone, BACKBONE, name): array for name, array in arrays.items()}


def _rotary(arrays: dict[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """timm's other kind of model: it has a class token also where it takes the mean of the patches, biases of queries
    and values, none of keys, and the two layers of a gated MLP apart.

    Raises:
        UserError: keys have a bias.
    """
    if config.pool == "gap":
        parts = arrays["reg_token"].tensor_split([1], dim=1)
        arrays["cls_token"], arrays["reg_token"] = (part.contiguous() for part in parts)
    apart: dict[str, tuple[str, ...]] = {"mlp.fc1.": ("mlp.fc1_g.", "mlp.fc1_x.")} if config.mlp == "swiglu" else {}
    apart["attn.qkv.bias"] = ("attn.q_bias", "attn.k_bias", "attn.v_bias")
    for name in list(arrays):
        whole = next((part for part in apart if part in name), None)
        if whole is not None:
            names = (name.replace(whole, part) for part in apart[whole])
            arrays |= zip(names, map(torch.clone, arrays.pop(name).chunk(len(apart[whole]))), strict=True)
    keys = [name for name in arrays if name.endswith("attn.k_bias")]
    if any(arrays.pop(name).any() for name in keys):
        raise UserError("timm's models with rotary positions have no bias of keys, and this model has one")
    return arrays


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
    positions=("learned_1d", "none", "rope"),
    caveats=lambda config: [] if config.stem_stages is None else [HYBRIDS],
)
