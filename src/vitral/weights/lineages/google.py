"""Google's formats: the released files of vision_transformer, its later naming, and big_vision."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor

from vitral.vit_config import ViTConfig
from vitral.weights.lineages.lineage import Arrays, Lineage, counted, side_of, with_folded_cls
from vitral.weights.mapping import CONV, DENSE, SAME, WITHOUT_CLS, Codec, Row, heads_in, heads_out, heads_vector

__all__ = ["BIG_VISION", "GOOGLE", "GOOGLE_LINEN"]

BLOCK = "Transformer/encoderblock_{}/"


def tidied(arrays: Arrays) -> dict[str, Tensor]:
    """The arrays without prefixes of the whole, stacked layers apart, and norms as vectors."""
    names = list(arrays)
    prefix = next(
        (start for start in ("params/img/", "opt/target/", "params/") if any(name.startswith(start) for name in names)),
        "",
    )
    found = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    found = {
        name: array.flatten() if re.search(r"gn\w*/(scale|bias)$", name) else array for name, array in found.items()
    }
    stacked = "Transformer/encoderblock/"
    for name in [name for name in found if name.startswith(stacked)]:
        for index, layer in enumerate(found.pop(name)):
            found[BLOCK.format(index) + name.removeprefix(stacked)] = layer
    if (both := found.pop("Transformer/pos_embedding", None)) is not None:  # an early form, with the class token's row
        if "cls" in found:
            found["cls"], both = found["cls"] + both[:, :1], both[:, 1:]
        found["pos_embedding"] = both
    return found


def _recognises(arrays: Arrays, *, attention: int, positions: str) -> bool:
    attends = any(f"MultiHeadDotProductAttention_{attention}/" in name for name in arrays)
    return "embedding/kernel" in arrays and attends and (not positions or positions in arrays)


def _config(arrays: Arrays, settings: Mapping[str, Any], *, attention: int, mlp: int, positions: str) -> ViTConfig:
    """What the shapes tell; everything else is the released code's."""
    p, q, inputs, width = arrays["embedding/kernel"].shape
    first = BLOCK.format(0)
    stages = tuple(
        counted(arrays, f"block{stage}/unit", "/conv1/kernel")
        for stage in range(1, 1 + counted(arrays, "block", "/unit1/conv1/kernel"))
    )
    hybrid = "conv_root/kernel" in arrays
    stride = 4 * 2 ** max(len(stages) - 1, 0) if hybrid else 1
    pool = "cls" if "cls" in arrays else "map" if "MAPHead_0/probe" in arrays else "gap"
    rows = 14 * 14
    if positions in arrays:
        rows = arrays[positions].shape[1] - (pool == "cls" and positions != "pos_embedding")
    side = side_of(rows, name=positions)
    head, hidden = arrays.get("head/kernel"), arrays.get("pre_logits/kernel")
    return ViTConfig(
        image_size=side * p * stride if p == q else (side * p * stride, side * q * stride),
        patch_size=p * stride if p == q else (p * stride, q * stride),
        channels=arrays["conv_root/kernel"].shape[2] if hybrid else inputs,
        stem_stages=stages if hybrid else None,
        stem_width=arrays["conv_root/kernel"].shape[3] if hybrid else 64,
        width=width,
        depth=counted(arrays, "Transformer/encoderblock_", "/LayerNorm_0/scale"),
        num_heads=arrays[f"{first}MultiHeadDotProductAttention_{attention}/query/kernel"].shape[1],
        mlp_dim=arrays[f"{first}MlpBlock_{mlp}/Dense_0/kernel"].shape[1],
        num_classes=1000 if head is None else head.shape[1],
        pool=pool,
        position="learned_1d" if positions in arrays else "sincos_2d",
        representation_size=None if hidden is None else hidden.shape[1],
    )


def _rows(c: ViTConfig, *, attention: int, norm: int, mlp: int, positions: str) -> list[Row]:
    """Every tensor of a model and its arrays."""
    rows = [*_dense("patch_embed.proj", "embedding", CONV), *_norm("norm", "Transformer/encoder_norm")]
    if c.pool == "cls":
        rows.append(Row(ours="cls_token", theirs=("cls",)))
    if c.position == "learned_1d":
        apart = c.pool == "cls" and positions == "pos_embedding"
        rows.append(Row(ours="pos_embed", theirs=(positions,), codec=WITHOUT_CLS if apart else SAME))
    for index in range(c.depth):
        own, theirs = f"blocks.{index}.", BLOCK.format(index)
        attends = f"{theirs}MultiHeadDotProductAttention_{attention}"
        rows += _norm(f"{own}norm1", f"{theirs}LayerNorm_0")
        rows += _attention(f"{own}attn.qkv", attends, ("query", "key", "value"), c.num_heads)
        rows += _out(f"{own}attn.proj", attends, c.num_heads)
        rows += _norm(f"{own}norm2", f"{theirs}LayerNorm_{norm}")
        rows += _mlp(f"{own}mlp", f"{theirs}MlpBlock_{mlp}")
    if c.pool == "map":
        attends = "MAPHead_0/MultiHeadDotProductAttention_0"
        rows.append(Row(ours="pool.latent", theirs=("MAPHead_0/probe",)))
        rows += _attention("pool.q", attends, ("query",), c.num_heads)
        rows += _attention("pool.kv", attends, ("key", "value"), c.num_heads)
        rows += [*_out("pool.proj", attends, c.num_heads), *_norm("pool.norm", "MAPHead_0/LayerNorm_0")]
        rows += _mlp("pool.mlp", "MAPHead_0/MlpBlock_0")
    if c.representation_size is not None:
        rows += _dense("pre_logits.0", "pre_logits")
    return [*rows, *_dense("head", "head"), *(_resnet(c) if c.stem_stages is not None else ())]


def _dense(ours: str, theirs: str, codec: Codec = DENSE) -> list[Row]:
    return [
        Row(ours=f"{ours}.weight", theirs=(f"{theirs}/kernel",), codec=codec),
        Row(ours=f"{ours}.bias", theirs=(f"{theirs}/bias",)),
    ]


def _norm(ours: str, theirs: str) -> list[Row]:
    return [
        Row(ours=f"{ours}.weight", theirs=(f"{theirs}/scale",)),
        Row(ours=f"{ours}.bias", theirs=(f"{theirs}/bias",)),
    ]


def _attention(ours: str, theirs: str, parts: tuple[str, ...], heads: int) -> list[Row]:
    return [
        Row(ours=f"{ours}.weight", theirs=tuple(f"{theirs}/{part}/kernel" for part in parts), codec=heads_in(heads)),
        Row(ours=f"{ours}.bias", theirs=tuple(f"{theirs}/{part}/bias" for part in parts), codec=heads_vector(heads)),
    ]


def _out(ours: str, theirs: str, heads: int) -> list[Row]:
    return [
        Row(ours=f"{ours}.weight", theirs=(f"{theirs}/out/kernel",), codec=heads_out(heads)),
        Row(ours=f"{ours}.bias", theirs=(f"{theirs}/out/bias",)),
    ]


def _mlp(ours: str, theirs: str) -> list[Row]:
    return [*_dense(f"{ours}.fc1", f"{theirs}/Dense_0"), *_dense(f"{ours}.fc2", f"{theirs}/Dense_1")]


def _resnet(c: ViTConfig) -> list[Row]:
    """A hybrid's convolutions and norms; stages and units count from 1 there."""
    stem = "patch_embed.backbone.stem"
    rows = [
        Row(ours=f"{stem}.conv.weight", theirs=("conv_root/kernel",), codec=CONV),
        *_norm(f"{stem}.norm", "gn_root"),
    ]
    for stage, units in enumerate(c.stem_stages or ()):
        for unit in range(units):
            own = f"patch_embed.backbone.stages.{stage}.blocks.{unit}"
            theirs = f"block{stage + 1}/unit{unit + 1}"
            parts = [(f"conv{k}", f"norm{k}", f"conv{k}", f"gn{k}") for k in (1, 2, 3)]
            if unit == 0:
                parts.append(("downsample.conv", "downsample.norm", "conv_proj", "gn_proj"))
            for conv, norm, their_conv, their_norm in parts:
                rows.append(Row(ours=f"{own}.{conv}.weight", theirs=(f"{theirs}/{their_conv}/kernel",), codec=CONV))
                rows += _norm(f"{own}.{norm}", f"{theirs}/{their_norm}")
    return rows


def _lineage(name: str, *, attention: int, norm: int, mlp: int, positions: str) -> Lineage:
    return Lineage(
        name=name,
        recognises=partial(_recognises, attention=attention, positions=positions),
        config=partial(_config, attention=attention, mlp=mlp, positions=positions),
        rows=partial(_rows, attention=attention, norm=norm, mlp=mlp, positions=positions),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        tidied=tidied,
        positions=("learned_1d", "sincos_2d"),
        prepared=with_folded_cls if positions == "pos_embedding" else lambda model: model.state_dict(),
    )


WITH_CLS = "Transformer/posembed_input/pos_embedding"
GOOGLE = _lineage("google", attention=1, norm=2, mlp=3, positions=WITH_CLS)
"""The released files of google-research/vision_transformer: ImageNet-21k, ImageNet, AugReg, SAM."""
GOOGLE_LINEN = _lineage("google-linen", attention=0, norm=1, mlp=0, positions=WITH_CLS)
"""The same code's naming in memory, and of files that it saves now."""
BIG_VISION = _lineage("big_vision", attention=0, norm=1, mlp=0, positions="pos_embedding")
"""big_vision; its early form is brought to this one on reading."""
