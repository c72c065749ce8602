"""timm's format: Vision Transformers and hybrids. Vitral uses the same tensor names, with a few exceptions."""

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
from vitral.weights.lineages.lineage import (
    Lineage,
    Tensors,
    count_indices,
    default_num_heads,
    grid_side,
    with_folded_cls,
)
from vitral.weights.mapping import TensorMapping

__all__ = ["TIMM"]

BACKBONE = "patch_embed.backbone."
GAMMA = "blocks.0.gamma_1"
HYBRIDS = (
    "timm uses other epsilons in the ResNet of a hybrid (GroupNorm 1e-5, filters sqrt(var + 1e-8)) than the released "
    "code; Vitral uses those of the released code"
)


def _matches(tensors: Tensors) -> bool:
    return "patch_embed.proj.weight" in tensors and "blocks.0.attn.qkv.weight" in tensors


def _infer_config(tensors: Tensors, upstream_config: Mapping[str, Any]) -> ViTConfig:
    """Sizes come from the shapes and from `model_args`; the numerics are timm's: epsilon 1e-6, its resampling."""
    args = {**upstream_config, **upstream_config.get("model_args", {})}
    width, inputs, p, q = tensors["patch_embed.proj.weight"].shape
    hybrid = f"{BACKBONE}stem.conv.weight" in tensors
    stages = tuple(
        count_indices(tensors, f"{BACKBONE}stages.{stage}.blocks.", ".conv1.weight")
        for stage in range(count_indices(tensors, f"{BACKBONE}stages.", ".blocks.0.conv1.weight"))
    )
    stride = 4 * 2 ** max(len(stages) - 1, 0) if hybrid else 1
    pool = "cls" if "cls_token" in tensors else "map" if "attn_pool.latent" in tensors else "gap"
    distilled, rope = "dist_token" in tensors, GAMMA in tensors and "pos_embed" not in tensors
    if "img_size" in args:
        size = args["img_size"]
        h, w = (size, size) if isinstance(size, int) else size
    else:
        positions, prefix = tensors.get("pos_embed"), (pool == "cls") + distilled
        side = 14 if positions is None else grid_side(positions.shape[1] - prefix, name="pos_embed")
        h, w = side * p * stride, side * q * stride
    hidden = tensors["blocks.0.mlp.fc2.weight"].shape[1]
    clip = "norm_pre.weight" in tensors
    return ViTConfig(
        image_size=h if h == w else (h, w),
        patch_size=p * stride if p == q else (p * stride, q * stride),
        channels=tensors[f"{BACKBONE}stem.conv.weight"].shape[1] if hybrid else inputs,
        stem_stages=stages if hybrid else None,
        stem_width=tensors[f"{BACKBONE}stem.conv.weight"].shape[0] if hybrid else 64,
        width=width,
        depth=count_indices(tensors, "blocks.", ".attn.qkv.weight"),
        num_heads=_num_heads(tensors, upstream_config) or default_num_heads(width),
        mlp_dim=hidden,
        num_classes=tensors["head.weight"].shape[0] if "head.weight" in tensors else 1000,
        pool=pool,
        distillation=distilled,
        num_registers=tensors["reg_token"].shape[1] if "reg_token" in tensors else 0,
        position="learned_1d" if "pos_embed" in tensors else "rope" if rope else "none",
        position_resample="timm",
        qk_norm="blocks.0.attn.q_norm.weight" in tensors,
        qkv_bias="blocks.0.attn.qkv.bias" in tensors,
        patch_bias="patch_embed.proj.bias" in tensors,
        pre_norm=clip,
        pooled_norm="fc_norm.weight" in tensors,
        mlp="swiglu" if tensors["blocks.0.mlp.fc1.weight"].shape[0] == 2 * hidden else "gelu",
        gelu=_gelu(args),
        norm_eps=1e-5 if clip or rope else 1e-6,
        layer_scale=1.0 if "blocks.0.ls1.gamma" in tensors or GAMMA in tensors else None,
        representation_size=tensors["pre_logits.fc.weight"].shape[0] if "pre_logits.fc.weight" in tensors else None,
    )


def _gelu(args: Mapping[str, Any]) -> Literal["tanh", "erf", "quick"]:
    """GELU named in `config.json`; the exact one by default."""
    forms: dict[str, Literal["tanh", "quick"]] = {"gelu_tanh": "tanh", "quick_gelu": "quick"}
    return "quick" if "quickgelu" in str(args.get("architecture")) else forms.get(str(args.get("act_layer")), "erf")


def _num_heads(tensors: Tensors, upstream_config: Mapping[str, Any]) -> int | None:
    """From `model_args`, or from the width of the query norm."""
    args = {**upstream_config, **upstream_config.get("model_args", {})}
    normed = tensors.get("blocks.0.attn.q_norm.weight")
    stated = None if normed is None else tensors["patch_embed.proj.weight"].shape[0] // normed.shape[0]
    return args.get("num_heads") or stated


def _canonicalise(tensors: Tensors) -> dict[str, Tensor]:
    """Brings the variants of timm's models into one form.

    - A hybrid without stages has no `stem.` prefix: it is added.
    - A class token that is not pooled becomes a register; the positions of registers are added to them.
    - Positions without a row for the class token get a row of zeros.
    - The two layers of a gated MLP, and the biases of queries and values, are concatenated.
    """
    canonical = {
        re.sub(rf"^{BACKBONE}(conv|norm)\.", rf"{BACKBONE}stem.\1.", name): tensor for name, tensor in tensors.items()
    }
    rope = GAMMA in canonical and "pos_embed" not in canonical
    if "cls_token" in canonical and ("fc_norm.weight" in canonical or (rope and "head.weight" in canonical)):
        canonical["reg_token"] = torch.cat([canonical.pop("cls_token"), *_optional(canonical, "reg_token")], dim=1)
    positions = canonical.get("pos_embed")
    if "reg_token" in canonical and "cls_token" not in canonical and positions is not None:
        side = math.isqrt(positions.shape[1])
        cls_rows = positions[:, : positions.shape[1] - side * side]
        with_position, others = canonical["reg_token"].tensor_split([cls_rows.shape[1]], dim=1)
        canonical["reg_token"] = torch.cat([with_position + cls_rows, others], dim=1)
        canonical["pos_embed"] = positions = positions[:, cls_rows.shape[1] :]
    if "cls_token" in canonical and positions is not None and math.isqrt(positions.shape[1]) ** 2 == positions.shape[1]:
        canonical["pos_embed"] = torch.cat([torch.zeros_like(positions[:, :1]), positions], dim=1)
    for gate in [name for name in canonical if ".mlp.fc1_g." in name]:
        value = gate.replace("fc1_g", "fc1_x")
        canonical[gate.replace("fc1_g", "fc1")] = torch.cat([canonical.pop(gate), canonical.pop(value)])
    for bias in [name for name in canonical if name.endswith(".attn.q_bias")]:
        query, value = canonical.pop(bias), canonical.pop(bias.replace("q_bias", "v_bias"))
        canonical[bias.replace("q_bias", "qkv.bias")] = torch.cat([query, torch.zeros_like(query), value])
    return canonical


def _optional(tensors: Mapping[str, Tensor], name: str) -> list[Tensor]:
    return [tensors[name]] if name in tensors else []


def _mapping(c: ViTConfig) -> list[TensorMapping]:
    """Most tensors have the same name in timm and in Vitral."""
    renames = {r"^pool\.": "attn_pool.", r"^pre_logits\.0\.": "pre_logits.fc.", r"^head\.dist\.": "head_dist."}
    if c.position == "rope":  # another model class in timm, Eva
        renames |= {r"\.ls(\d)\.gamma$": r".gamma_\1"}
    mapping = []
    for name in blank_model(c).state_dict():
        renamed = name
        for pattern, new in renames.items():
            renamed = re.sub(pattern, new, renamed)
        mapping.append(TensorMapping(name, (renamed,)))
    return mapping


def _state_dict(model: ViT) -> dict[str, Tensor]:
    return with_folded_cls(model) if model.config.num_registers else model.state_dict()


def _finalise(tensors: dict[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """Removes the class token's row if there are registers, and the `stem.` prefix of a hybrid without stages."""
    if config.position == "rope":
        return _rotary(tensors, config)
    if config.num_registers and config.pool == "cls" and "pos_embed" in tensors:
        tensors["pos_embed"] = tensors["pos_embed"][:, 1:].contiguous()
    root_prefix = rf"^{BACKBONE}stem\." if config.stem_stages == () else r"(?!)"
    return {re.sub(root_prefix, BACKBONE, name): tensor for name, tensor in tensors.items()}


def _rotary(tensors: dict[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """Tensors of timm's `Eva`, its class for rotary positions.

    It always has a class token, even if it pools the mean of the patches. Queries and values have separate biases, keys
    have none, and the two layers of a gated MLP are separate.

    Raises:
        UserError: the model's keys have a bias.
    """
    if config.pool == "gap":
        parts = tensors["reg_token"].tensor_split([1], dim=1)
        tensors["cls_token"], tensors["reg_token"] = (part.contiguous() for part in parts)
    separate: dict[str, tuple[str, ...]] = {"mlp.fc1.": ("mlp.fc1_g.", "mlp.fc1_x.")} if config.mlp == "swiglu" else {}
    separate["attn.qkv.bias"] = ("attn.q_bias", "attn.k_bias", "attn.v_bias")
    for name in list(tensors):
        fused = next((part for part in separate if part in name), None)
        if fused is not None:
            names = (name.replace(fused, part) for part in separate[fused])
            tensors |= zip(names, map(torch.clone, tensors.pop(name).chunk(len(separate[fused]))), strict=True)
    keys = [name for name in tensors if name.endswith("attn.k_bias")]
    if any(tensors.pop(name).any() for name in keys):
        raise UserError("timm's models with rotary positions cannot store a key bias, and this model has one")
    return tensors


TIMM = Lineage(
    name="timm",
    matches=_matches,
    infer_config=_infer_config,
    mapping=_mapping,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    num_heads=_num_heads,
    canonicalise=_canonicalise,
    state_dict=_state_dict,
    finalise=_finalise,
    positions=("learned_1d", "none", "rope"),
    caveats=lambda config: [] if config.stem_stages is None else [HYBRIDS],
)
