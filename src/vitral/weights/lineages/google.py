"""Google's formats: the released vision_transformer files, their newer names, and big_vision."""

import math
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

from vitral.errors import UserError
from vitral.vit_config import ViTConfig
from vitral.weights.lineages.lineage import (
    HALF,
    Images,
    Lineage,
    Tensors,
    count_indices,
    grid_side,
    with_folded_cls,
)
from vitral.weights.mapping import (
    FLAX_CONV,
    IDENTITY,
    POSITIONS_WITHOUT_CLS,
    TRANSPOSE,
    Layout,
    TensorMapping,
    flax_out_kernel,
    flax_qkv_bias,
    flax_qkv_kernel,
)

__all__ = ["BIG_VISION", "GOOGLE", "GOOGLE_LINEN"]

BLOCK = "Transformer/encoderblock_{}/"
WITH_CLS = "Transformer/posembed_input/pos_embedding"
"""Positions with a row for the class token."""
PREFIXES = ("params/img/", "opt/target/img/", "img/", "params/", "opt/target/")
"""What may precede the names: of the image tower, of the parameters beside the optimiser's state."""
POOLING = ("MultiHeadDotProductAttention_0/", "LayerNorm_0/", "MlpBlock_0/")
SIDE = 224
"""Usual image size in pixels, of files without positions."""


def _canonicalise(tensors: Tensors) -> dict[str, Tensor]:
    """Strips prefixes, splits stacked layers, flattens the norms of ResNets to vectors, and renames early tensors."""
    prefix = next((prefix for prefix in PREFIXES if f"{prefix}embedding/kernel" in tensors), "")
    canonical = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    canonical = {
        name: tensor.flatten() if re.search(r"gn\w*/(scale|bias)$", name) else tensor
        for name, tensor in canonical.items()
    }
    stacked = "Transformer/encoderblock/"
    for name in [name for name in canonical if name.startswith(stacked)]:
        for index, layer in enumerate(canonical.pop(name)):
            canonical[BLOCK.format(index) + name.removeprefix(stacked)] = layer
    # attention pooling of early big_vision files, whose tensors lie beside the others
    for name in [name for name in canonical if name == "probe" or name.startswith(POOLING)]:
        canonical[f"MAPHead_0/{name}"] = canonical.pop(name)
    return _without_cls_row(canonical)


def _without_cls_row(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Positions of early big_vision files, which may lie elsewhere and have a row for the class token.

    As in its `fix_old_checkpoints`, the row is added to the token, and dropped if there is none.
    """
    if "Transformer/pos_embedding" in tensors:
        tensors["pos_embedding"] = tensors.pop("Transformer/pos_embedding")
    positions = tensors.get("pos_embedding")
    rows = positions.shape[1] if positions is not None and positions.ndim == 3 else 0
    if positions is not None and rows > 1 and math.isqrt(rows - 1) ** 2 + 1 == rows:
        tensors["pos_embedding"] = positions[:, 1:]
        if "cls" in tensors:
            tensors["cls"] = tensors["cls"] + positions[:, :1]
    return tensors


def _matches(tensors: Tensors, *, attention: int, positions: str) -> bool:
    """Names of attention and positions decide; big_vision's sine-cosine positions are not stored."""
    has_attention = any(f"MultiHeadDotProductAttention_{attention}/" in name for name in tensors)
    computed = positions == "pos_embedding" and WITH_CLS not in tensors
    return "embedding/kernel" in tensors and has_attention and (positions in tensors or computed)


def _infer_config(
    tensors: Tensors, upstream_config: Mapping[str, Any], *, attention: int, mlp: int, positions: str
) -> ViTConfig:
    """Sizes come from the shapes; everything else is as in the released code."""
    if tensors["embedding/kernel"].ndim == 2:
        raise UserError("it is a NaFlex model, which keeps an image's proportions; Vitral has no such model")
    p, q, inputs, width = tensors["embedding/kernel"].shape
    first = BLOCK.format(0)
    stages = tuple(
        count_indices(tensors, f"block{stage}/unit", "/conv1/kernel")
        for stage in range(1, 1 + count_indices(tensors, "block", "/unit1/conv1/kernel"))
    )
    hybrid = "conv_root/kernel" in tensors
    stride = 4 * 2 ** max(len(stages) - 1, 0) if hybrid else 1
    pool = "cls" if "cls" in tensors else "map" if "MAPHead_0/probe" in tensors else "gap"
    side = max(SIDE // (max(p, q) * stride), 1)
    if positions in tensors:
        patches = tensors[positions].shape[1] - (pool == "cls" and positions != "pos_embedding")
        side = grid_side(patches, name=positions)
    head, hidden = tensors.get("head/kernel"), tensors.get("pre_logits/kernel")
    return ViTConfig(
        image_size=side * p * stride if p == q else (side * p * stride, side * q * stride),
        patch_size=p * stride if p == q else (p * stride, q * stride),
        channels=tensors["conv_root/kernel"].shape[2] if hybrid else inputs,
        stem_stages=stages if hybrid else None,
        stem_width=tensors["conv_root/kernel"].shape[3] if hybrid else 64,
        width=width,
        depth=count_indices(tensors, "Transformer/encoderblock_", "/LayerNorm_0/scale"),
        num_heads=_num_heads(tensors, upstream_config, attention=attention),
        mlp_dim=tensors[f"{first}MlpBlock_{mlp}/Dense_0/kernel"].shape[1],
        num_classes=1000 if head is None else head.shape[1],
        pool=pool,
        position="learned_1d" if positions in tensors else "sincos_2d",
        representation_size=None if hidden is None else hidden.shape[1],
    )


def _num_heads(tensors: Tensors, upstream_config: Mapping[str, Any], *, attention: int) -> int:
    return tensors[f"{BLOCK.format(0)}MultiHeadDotProductAttention_{attention}/query/kernel"].shape[1]


def _caveats(config: ViTConfig) -> list[str]:
    if config.position != "sincos_2d":
        return []
    h, w = config.image_hw
    return [
        f"sine-cosine positions are not stored, and so is not the image size: {h}x{w} pixels, unless --image-size (in "
        "Python image_size=) gives another"
    ]


def _mapping(c: ViTConfig, *, attention: int, norm: int, mlp: int, positions: str) -> list[TensorMapping]:
    """Mapping of every tensor; the arguments are the numbers that Flax gave to the modules of a block."""
    mapping = [*_dense("patch_embed.proj", "embedding", FLAX_CONV), *_norm("norm", "Transformer/encoder_norm")]
    if c.pool == "cls":
        mapping.append(TensorMapping("cls_token", ("cls",)))
    if c.position == "learned_1d":
        no_cls_row = c.pool == "cls" and positions == "pos_embedding"
        mapping.append(TensorMapping("pos_embed", (positions,), POSITIONS_WITHOUT_CLS if no_cls_row else IDENTITY))
    for index in range(c.depth):
        block, upstream = f"blocks.{index}.", BLOCK.format(index)
        attention_name = f"{upstream}MultiHeadDotProductAttention_{attention}"
        mapping += _norm(f"{block}norm1", f"{upstream}LayerNorm_0")
        mapping += _attention(f"{block}attn.qkv", attention_name, ("query", "key", "value"), c.num_heads)
        mapping += _out(f"{block}attn.proj", attention_name, c.num_heads)
        mapping += _norm(f"{block}norm2", f"{upstream}LayerNorm_{norm}")
        mapping += _mlp(f"{block}mlp", f"{upstream}MlpBlock_{mlp}")
    if c.pool == "map":
        attention_name = "MAPHead_0/MultiHeadDotProductAttention_0"
        mapping.append(TensorMapping("pool.latent", ("MAPHead_0/probe",)))
        mapping += _attention("pool.q", attention_name, ("query",), c.num_heads)
        mapping += _attention("pool.kv", attention_name, ("key", "value"), c.num_heads)
        mapping += [*_out("pool.proj", attention_name, c.num_heads), *_norm("pool.norm", "MAPHead_0/LayerNorm_0")]
        mapping += _mlp("pool.mlp", "MAPHead_0/MlpBlock_0")
    if c.representation_size is not None:
        mapping += _dense("pre_logits.0", "pre_logits")
    return [*mapping, *_dense("head", "head"), *(_resnet(c) if c.stem_stages is not None else ())]


def _dense(name: str, upstream: str, layout: Layout = TRANSPOSE) -> list[TensorMapping]:
    return [
        TensorMapping(f"{name}.weight", (f"{upstream}/kernel",), layout),
        TensorMapping(f"{name}.bias", (f"{upstream}/bias",)),
    ]


def _norm(name: str, upstream: str) -> list[TensorMapping]:
    return [
        TensorMapping(f"{name}.weight", (f"{upstream}/scale",)),
        TensorMapping(f"{name}.bias", (f"{upstream}/bias",)),
    ]


def _attention(name: str, upstream: str, parts: tuple[str, ...], num_heads: int) -> list[TensorMapping]:
    return [
        TensorMapping(
            f"{name}.weight", tuple(f"{upstream}/{part}/kernel" for part in parts), flax_qkv_kernel(num_heads)
        ),
        TensorMapping(f"{name}.bias", tuple(f"{upstream}/{part}/bias" for part in parts), flax_qkv_bias(num_heads)),
    ]


def _out(name: str, upstream: str, num_heads: int) -> list[TensorMapping]:
    return [
        TensorMapping(f"{name}.weight", (f"{upstream}/out/kernel",), flax_out_kernel(num_heads)),
        TensorMapping(f"{name}.bias", (f"{upstream}/out/bias",)),
    ]


def _mlp(name: str, upstream: str) -> list[TensorMapping]:
    return [*_dense(f"{name}.fc1", f"{upstream}/Dense_0"), *_dense(f"{name}.fc2", f"{upstream}/Dense_1")]


def _resnet(c: ViTConfig) -> list[TensorMapping]:
    """Convolutions and norms of a hybrid; upstream stages and units count from 1."""
    stem = "patch_embed.backbone.stem"
    mapping = [
        TensorMapping(f"{stem}.conv.weight", ("conv_root/kernel",), FLAX_CONV),
        *_norm(f"{stem}.norm", "gn_root"),
    ]
    for stage, units in enumerate(c.stem_stages or ()):
        for unit in range(units):
            name = f"patch_embed.backbone.stages.{stage}.blocks.{unit}"
            upstream = f"block{stage + 1}/unit{unit + 1}"
            parts = [(f"conv{k}", f"norm{k}", f"conv{k}", f"gn{k}") for k in (1, 2, 3)]
            if unit == 0:
                parts.append(("downsample.conv", "downsample.norm", "conv_proj", "gn_proj"))
            for conv, norm, upstream_conv, upstream_norm in parts:
                mapping.append(
                    TensorMapping(f"{name}.{conv}.weight", (f"{upstream}/{upstream_conv}/kernel",), FLAX_CONV)
                )
                mapping += _norm(f"{name}.{norm}", f"{upstream}/{upstream_norm}")
    return mapping


def _lineage(name: str, *, attention: int, norm: int, mlp: int, positions: str) -> Lineage:
    return Lineage(
        name=name,
        matches=partial(_matches, attention=attention, positions=positions),
        infer_config=partial(_infer_config, attention=attention, mlp=mlp, positions=positions),
        mapping=partial(_mapping, attention=attention, norm=norm, mlp=mlp, positions=positions),
        images=lambda config, stated: Images(**HALF),
        num_heads=partial(_num_heads, attention=attention),
        canonicalise=_canonicalise,
        positions=("learned_1d", "sincos_2d"),
        state_dict=with_folded_cls if positions == "pos_embedding" else lambda model: model.state_dict(),
        caveats=_caveats,
    )


GOOGLE = _lineage("google", attention=1, norm=2, mlp=3, positions=WITH_CLS)
"""The released files of google-research/vision_transformer: ImageNet-21k, ImageNet, AugReg, SAM."""
GOOGLE_LINEN = _lineage("google-linen", attention=0, norm=1, mlp=0, positions=WITH_CLS)
"""The same code with its newer module names, which it uses in memory and in files that it saves now."""
BIG_VISION = _lineage("big_vision", attention=0, norm=1, mlp=0, positions="pos_embedding")
"""big_vision; early files, whose positions have a row for the class token, are converted on reading."""
