"""timm's format: Vision Transformers and hybrids. Vitral uses the same tensor names, with a few exceptions.

The official files of DINO and DeiT have the same names.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vitral.errors import UserError
from vitral.models import blank_model
from vitral.vit import ViT
from vitral.vit_config import ViTConfig
from vitral.weights.lineages.lineage import Images, Lineage, Tensors, with_folded_cls
from vitral.weights.lineages.timm_config import (
    BACKBONE,
    CONFIG_KEYS,
    assumptions,
    infer_config,
    model_args,
    num_heads,
    undecided,
)
from vitral.weights.lineages.timm_preprocessing import timm_preprocessing
from vitral.weights.mapping import TensorMapping

__all__ = ["TIMM", "has_timm_names", "mapping", "prepare"]


def has_timm_names(tensors: Tensors) -> bool:
    """Whether patch embedding and blocks have timm's names."""
    return "patch_embed.proj.weight" in tensors and "blocks.0.attn.qkv.weight" in tensors


def _canonicalise(tensors: Tensors) -> dict[str, Tensor]:
    """Adds the `stem.` prefix to a hybrid without stages."""
    return {
        re.sub(rf"^{BACKBONE}(conv|norm)\.", rf"{BACKBONE}stem.\1.", name): tensor for name, tensor in tensors.items()
    }


def prepare(tensors: dict[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """Brings the variants of timm's models into one form.

    - A class token that is not pooled becomes a register; the positions of registers are added to them.
    - Positions without rows for class tokens get rows of zeros.
    - The two layers of a gated MLP, and the biases of queries and values, are concatenated.
    - Scales are named as in timm's plain models, also in files of DeiT III; absent biases of dense layers become zero.
    """
    prepared = dict(tensors)
    if config.pool != "cls" and "cls_token" in prepared:
        registers = [prepared[name] for name in ("cls_token", "reg_token") if name in prepared]
        prepared["reg_token"] = torch.cat(registers, dim=1)
        del prepared["cls_token"]
    if "pos_embed" in prepared:
        _prepare_positions(prepared, config)
    for gate in [name for name in prepared if ".mlp.fc1_g." in name]:
        value = gate.replace("fc1_g", "fc1_x")
        prepared[gate.replace("fc1_g", "fc1")] = torch.cat([prepared.pop(gate), prepared.pop(value)])
    for bias in [name for name in prepared if name.endswith(".attn.q_bias")]:
        query, value = prepared.pop(bias), prepared.pop(bias.replace("q_bias", "v_bias"))
        prepared[bias.replace("q_bias", "qkv.bias")] = torch.cat([query, torch.zeros_like(query), value])
    if config.position != "rope":
        prepared = {re.sub(r"\.gamma_(\d)$", r".ls\1.gamma", name): tensor for name, tensor in prepared.items()}
    dense = re.compile(r"blocks\.\d+\.(attn\.proj|mlp\.fc\d)\.(weight|bias)")
    weights = {name: tensor for name, tensor in prepared.items() if dense.fullmatch(name)}
    if not any(name.endswith(".bias") for name in weights):
        prepared |= {name.replace("weight", "bias"): weight.new_zeros(len(weight)) for name, weight in weights.items()}
    return prepared


def _prepare_positions(tensors: dict[str, Tensor], config: ViTConfig) -> None:
    """Leaves rows for class tokens and patches only; timm has rows for all tokens before the patches, or for none."""
    table, classes = tensors["pos_embed"], config.num_class_tokens
    rows = table.shape[1] - config.grid[0] * config.grid[1]
    if rows < classes:
        table = torch.cat([table.new_zeros(1, classes - rows, config.width), table], dim=1)
    elif rows > classes:
        of_classes, of_registers, of_patches = table.split([classes, rows - classes, table.shape[1] - rows], dim=1)
        with_rows, others = tensors["reg_token"].tensor_split([rows - classes], dim=1)
        tensors["reg_token"] = torch.cat([with_rows + of_registers, others], dim=1)
        table = torch.cat([of_classes, of_patches], dim=1)
    tensors["pos_embed"] = table


def mapping(c: ViTConfig) -> list[TensorMapping]:
    """Most tensors have the same name in timm and in Vitral."""
    renames = {r"^pool\.": "attn_pool.", r"^pre_logits\.0\.": "pre_logits.fc.", r"^head\.dist\.": "head_dist."}
    if c.position == "rope":  # another model class in timm, Eva
        renames |= {r"\.ls(\d)\.gamma$": r".gamma_\1"}
    entries = []
    with_bias = c if c.head_bias is not None else replace(c, head_bias=0.0)  # timm's heads always have one
    for name in blank_model(with_bias).state_dict():
        renamed = name
        for pattern, new in renames.items():
            renamed = re.sub(pattern, new, renamed)
        entries.append(TensorMapping(name, (renamed,)))
    return entries


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


def _images(config: ViTConfig, upstream_config: Mapping[str, Any]) -> Images:
    """As timm's best known model with such parts."""
    parts = {
        "vit_base_patch16_clip_224": config.pre_norm,
        "vit_base_patch16_dinov3": config.position == "rope",
        "vit_base_patch14_dinov2": config.layer_scale is not None,
        "deit_base_distilled_patch16_224": config.distillation,
        "vit_base_patch16_siglip_224": config.pool == "map",
    }
    name = next((name for name, applies in parts.items() if applies), "vit_base_patch16_224")
    stated = timm_preprocessing(name)
    assert stated is not None
    crop = None if stated["crop_mode"] == "squash" else stated["crop_pct"]
    mean, std = tuple(stated["mean"]), tuple(stated["std"])
    return Images(mean=mean, std=std, crop_ratio=crop, interpolation=stated["interpolation"], like=f"timm's {name}")


TIMM = Lineage(
    name="timm",
    head="head",
    matches=has_timm_names,
    infer_config=infer_config,
    mapping=mapping,
    images=_images,
    num_heads=num_heads,
    config_keys=CONFIG_KEYS,
    config_section=model_args,
    canonicalise=_canonicalise,
    prepare=prepare,
    state_dict=_state_dict,
    finalise=_finalise,
    positions=("learned_1d", "none", "rope"),
    stores={"final_norm": (True, False)},
    ignore=r"^head\.(mlp|last_layer)\.|^(dino|ibot)_head\.",
    assumptions=assumptions,
    undecided=undecided,
)
