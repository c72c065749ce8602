"""Files of facebookresearch's repositories: MAE, MoCo v3, DINOv2 and DINOv3.

The files of DINO and DeiT have timm's names and are read as timm's.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vitral.errors import UserError
from vitral.models import blank_model
from vitral.vit_config import ViTConfig
from vitral.weights.lineages.lineage import (
    DINOV3_HEADS,
    IMAGENET,
    Images,
    Lineage,
    Tensors,
    count_indices,
    default_num_heads,
    grid_side,
)
from vitral.weights.lineages.timm import has_timm_names, mapping, prepare
from vitral.weights.lineages.timm_config import CONFIG_KEYS, infer_config, model_args, num_heads
from vitral.weights.mapping import TensorMapping

__all__ = ["FACEBOOK_DINOV2", "FACEBOOK_DINOV3", "MAE", "MOCO_V3"]

MAE_HEADS = {768: 12, 1024: 16, 1280: 16}
MOCO_HEADS = {384: 12, 768: 12}
DINOV2_HEADS = {384: 6, 768: 12, 1024: 16, 1536: 24}
"""Attention heads of the repository's models by their width."""
HEADS = r"^(dino|ibot)_head\.|^head\.(mlp|last_layer)\."
"""Heads of pre-training."""
PERIODS = "rope_embed.periods"
EXACT, ROUNDED = 1e-5, 2**-7
"""Largest relative differences of rotary periods: computed in float32, and in bfloat16."""


def _has_waves(tensors: Tensors, *, rows_first: bool) -> bool:
    """Whether positions are MAE's sines and cosines, which MoCo v3 has too, with rows and columns exchanged."""
    table = tensors.get("pos_embed")
    if not has_timm_names(tensors) or table is None or table.ndim != 3 or table.shape[2] % 4:
        return False
    side = round((table.shape[1] - 1) ** 0.5)
    if side < 2 or side * side != table.shape[1] - 1 or table[0, 0].any():
        return False
    quarter = table.shape[2] // 4
    steps = torch.arange(side, dtype=torch.float64)[:, None] * 10_000.0 ** -(torch.arange(quarter) / quarter).double()
    waves = torch.cat([steps.sin(), steps.cos()], dim=1)
    down, along = waves.repeat_interleave(side, 0), waves.repeat(side, 1)
    expected = torch.cat([down, along] if rows_first else [along, down], dim=1)
    tolerance = 1e-4 if table.dtype == torch.float32 else 1e-2
    return torch.allclose(table[0, 1:].double(), expected, rtol=0, atol=tolerance)


def _timm_heads(tensors: Tensors, upstream_config: Mapping[str, Any], *, known: Mapping[int, int]) -> int | None:
    """As timm's `config.json` states, which may lie beside such a file too, or known for the width."""
    return num_heads(tensors, upstream_config) or known.get(len(tensors["patch_embed.proj.weight"]))


def _timm_config(tensors: Tensors, upstream_config: Mapping[str, Any], *, known: Mapping[int, int]) -> ViTConfig:
    """As timm's, with the repository's heads; without timm's `config.json`, positions are resampled as MAE does."""
    stated = _timm_heads(tensors, upstream_config, known=known)
    config = infer_config(tensors, upstream_config if stated is None else {**upstream_config, "num_heads": stated})
    return config if "architecture" in upstream_config else replace(config, position_resample="mae")


def _named_as_timm(
    name: str, *, matches: Callable[[Tensors], bool], known: Mapping[int, int], ignore: str, images: Images
) -> Lineage:
    """A format with timm's names, recognised otherwise than they are, with the repository's heads by width."""
    return Lineage(
        name=name,
        head="head",
        matches=matches,
        infer_config=partial(_timm_config, known=known),
        mapping=mapping,
        images=lambda config, stated: images,
        num_heads=partial(_timm_heads, known=known),
        config_keys=CONFIG_KEYS,
        config_section=model_args,
        prepare=prepare,
        ignore=ignore,
    )


def _is_mae(tensors: Tensors) -> bool:
    return has_timm_names(tensors) and ("decoder_embed.weight" in tensors or _has_waves(tensors, rows_first=False))


CROP: dict[str, Any] = {**IMAGENET, "crop_ratio": 0.875}
"""The repositories evaluate the centre 224 pixels of images of 256."""
MAE = _named_as_timm(
    "mae",
    matches=_is_mae,
    known=MAE_HEADS,
    ignore=r"^decoder_|^mask_token$",
    images=Images(**CROP, interpolation="bicubic", like="MAE's evaluation at 224 pixels"),
)
"""`MaskedAutoencoderViT` and its encoder alone, recognised by decoder or positions; fine-tuned models are timm's."""
MOCO_V3 = _named_as_timm(
    "moco-v3",
    matches=partial(_has_waves, rows_first=True),
    known=MOCO_HEADS,
    ignore=r"^head\.\d",
    images=Images(**CROP, like="MoCo v3's evaluation at 224 pixels"),
)
"""`VisionTransformerMoCo`, recognised by its positions; a projector in place of the head is left out."""


def _renames(tensors: Tensors, renames: Mapping[str, str]) -> dict[str, Tensor]:
    renamed = dict(tensors)
    for old, new in renames.items():
        renamed = {re.sub(old, new, name): tensor for name, tensor in renamed.items()}
    return renamed


def _dino_config(tensors: Tensors, *, heads: int | None, side: int, **fields: Any) -> ViTConfig:
    """What the encoders of DINOv2 and DINOv3 have in common; a side is counted in patches."""
    width, channels, p, q = tensors["patch_embed.proj.weight"].shape
    return ViTConfig(
        image_size=side * p if p == q else (side * p, side * q),
        patch_size=p if p == q else (p, q),
        channels=channels,
        width=width,
        depth=count_indices(tensors, "blocks.", ".attn.qkv.weight"),
        num_heads=heads or default_num_heads(width, DINOV3_HEADS if fields.get("position") == "rope" else None),
        num_classes=len(tensors["head.weight"]) if "head.weight" in tensors else 1000,
        gelu="erf",
        layer_scale=1.0,
        **fields,
    )


def _dino_mapping(c: ViTConfig, renames: Mapping[str, tuple[str, ...]]) -> list[TensorMapping]:
    """Vitral's names, which are mostly the repository's. LayerScale and biases are always there."""
    entries = []
    for name in blank_model(replace(c, layer_scale=1.0, qkv_bias=True)).state_dict():
        pattern = next((pattern for pattern in renames if re.search(pattern, name)), None)
        upstream = (name,) if pattern is None else tuple(re.sub(pattern, new, name) for new in renames[pattern])
        entries.append(TensorMapping(name, upstream))
    return entries


def _dinov2_heads(tensors: Tensors, upstream_config: Mapping[str, Any]) -> int | None:
    """Given by the user, or known for the width."""
    return upstream_config.get("num_heads") or DINOV2_HEADS.get(len(tensors["patch_embed.proj.weight"]))


def _dinov2_config(tensors: Tensors, upstream_config: Mapping[str, Any]) -> ViTConfig:
    """Sizes come from the shapes. Models with registers resample positions with antialiasing, without an offset.

    The repository's linear classifier reads class token and mean of the patches side by side.
    """
    gated, registers = "blocks.0.mlp.w12.weight" in tensors, tensors.get("register_tokens")
    width = len(tensors["patch_embed.proj.weight"])
    return _dino_config(
        tensors,
        heads=_dinov2_heads(tensors, upstream_config),
        side=grid_side(tensors["pos_embed"].shape[1] - 1, name="pos_embed"),
        mlp_dim=tensors["blocks.0.mlp.w3.weight" if gated else "blocks.0.mlp.fc2.weight"].shape[1],
        mlp="swiglu" if gated else "gelu",
        num_registers=0 if registers is None else registers.shape[1],
        pool="cls_gap" if "head.weight" in tensors and tensors["head.weight"].shape[1] == 2 * width else "cls",
        position_resample="dinov2" if registers is None else "timm",
    )


def _dinov2_mapping(c: ViTConfig) -> list[TensorMapping]:
    gated = {r"\.mlp\.fc1\.": (".mlp.w12.",), r"\.mlp\.fc2\.": (".mlp.w3.",)} if c.mlp == "swiglu" else {}
    return _dino_mapping(c, {r"^reg_token$": ("register_tokens",), **gated})


def _without_head(tensors: Mapping[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """Tensors of an encoder with a mask token, which the repositories require and only pre-training uses."""
    encoder = {name: tensor for name, tensor in tensors.items() if not name.startswith("head.")}
    return {**encoder, "mask_token": torch.zeros(1, config.width)}


FACEBOOK_DINOV2 = Lineage(
    name="facebook-dinov2",
    head="head",
    head_inputs=(1, 2),
    matches=lambda tensors: (
        has_timm_names(tensors)
        and "pos_embed" in tensors
        and (
            "register_tokens" in tensors
            or "blocks.0.mlp.w12.weight" in tensors
            or ("mask_token" in tensors and tensors["mask_token"].ndim == 2)
        )
    ),
    infer_config=_dinov2_config,
    mapping=_dinov2_mapping,
    images=lambda config, stated: Images(**CROP, interpolation="bicubic", like="DINOv2's evaluation at 224 pixels"),
    num_heads=_dinov2_heads,
    canonicalise=lambda tensors: _renames(tensors, {r"^blocks\.\d+\.(\d+)\.": r"blocks.\1."}),  # chunks of blocks
    ignore=rf"^mask_token$|{HEADS}",
    finalise=_without_head,
)
"""`DinoVisionTransformer` of DINOv2, with and without registers, with blocks in chunks too."""


def _dinov3_canonicalise(tensors: Tensors) -> dict[str, Tensor]:
    """Multiplies biases of queries, keys and values by their mask, which is zero for keys and one elsewhere.

    A mask of NaN was never filled; it is filled as the repository does.
    """
    canonical = dict(tensors)
    for name in [name for name in canonical if name.endswith(".attn.qkv.bias_mask")]:
        mask, bias = canonical[name].float(), canonical.get(name.removesuffix("_mask"))
        if bias is None or bias.shape != mask.shape or mask.ndim != 1 or len(mask) % 3:
            continue  # damaged: the mask stays as a tensor that the model does not have
        if mask.isnan().any():
            mask = _key_mask(mask)
        canonical[name.removesuffix("_mask")] = torch.where(mask == 0, torch.zeros_like(bias), bias * mask)
        del canonical[name]
    return canonical


def _key_mask(bias: Tensor) -> Tensor:
    """One for queries and values, zero for keys."""
    mask = torch.ones_like(bias)
    mask.chunk(3)[1].zero_()
    return mask


def _periods(width: int) -> Tensor:
    """Periods of DINOv3's rotary positions for heads of this width, computed in float32 as in the repository."""
    quarter = width // 4
    return 100.0 ** (2 * torch.arange(quarter, dtype=torch.float32) / (2 * quarter))


def _stored_periods(tensors: Tensors) -> tuple[float, ...] | None:
    """Periods of the file, with which the repository computes; None: they are exact, or not stored.

    The released files have them rounded to bfloat16.

    Raises:
        UserError: they are not those of DINOv3's base.
    """
    if (stored := tensors.get(PERIODS)) is None:
        return None
    exact = _periods(4 * len(stored))
    error = float(((stored.float() - exact) / exact).abs().max())
    if not error < ROUNDED:
        raise UserError("its rotary periods are not those of DINOv3 with base 100, which Vitral does not compute")
    return None if error < EXACT else tuple(stored.tolist())


def _dinov3_heads(tensors: Tensors, upstream_config: Mapping[str, Any]) -> int | None:
    """From the periods, of which there are a quarter of a head's width."""
    periods = tensors.get(PERIODS)
    if given := upstream_config.get("num_heads"):
        return given
    if periods is None or not periods.numel():
        return None
    return len(tensors["patch_embed.proj.weight"]) // (4 * periods.numel())


def _dinov3_config(tensors: Tensors, upstream_config: Mapping[str, Any]) -> ViTConfig:
    """Sizes come from the shapes; epsilon is that of all released models.

    Raises:
        UserError: class token and patches have separate norms, norms have no bias, or periods are others.
    """
    if "cls_norm.weight" in tensors:
        raise UserError("it normalises class token and patches separately, which Vitral does not compute")
    if "norm.bias" not in tensors:
        raise UserError("it normalises with RMSNorm, which Vitral does not compute")
    gated, registers = "blocks.0.mlp.w1.weight" in tensors, tensors.get("storage_tokens")
    return _dino_config(
        tensors,
        heads=_dinov3_heads(tensors, upstream_config),
        side=14,
        mlp_dim=tensors["blocks.0.mlp.w3.weight" if gated else "blocks.0.mlp.fc2.weight"].shape[1],
        mlp="swiglu" if gated else "gelu",
        num_registers=0 if registers is None else registers.shape[1],
        position="rope",
        rope_periods=_stored_periods(tensors),
        norm_eps=1e-5,
    )


def _dinov3_mapping(c: ViTConfig) -> list[TensorMapping]:
    gated = {r"\.mlp\.fc1\.": (".mlp.w1.", ".mlp.w2."), r"\.mlp\.fc2\.": (".mlp.w3.",)} if c.mlp == "swiglu" else {}
    return _dino_mapping(c, {r"^reg_token$": ("storage_tokens",), **gated})


def _dinov3_finalise(tensors: dict[str, Tensor], config: ViTConfig) -> dict[str, Tensor]:
    """Adds the periods, and masks for biases unless keys have one."""
    encoder = _without_head(tensors, config)
    exact = _periods(config.width // config.num_heads)
    encoder[PERIODS] = exact if config.rope_periods is None else torch.tensor(config.rope_periods)
    biases = [name for name in encoder if name.endswith(".attn.qkv.bias")]
    if not any(encoder[name].chunk(3)[1].any() for name in biases):
        encoder |= {f"{name}_mask": _key_mask(encoder[name]) for name in biases}
    return encoder


FACEBOOK_DINOV3 = Lineage(
    name="facebook-dinov3",
    head="head",
    matches=lambda tensors: has_timm_names(tensors) and ("storage_tokens" in tensors or PERIODS in tensors),
    infer_config=_dinov3_config,
    mapping=_dinov3_mapping,
    images=lambda config, stated: Images(**IMAGENET, like="DINOv3 of web images (LVD-1689M)"),
    num_heads=_dinov3_heads,
    canonicalise=_dinov3_canonicalise,
    positions=("rope",),
    prepare=lambda tensors, config: {name: tensors[name] for name in tensors if name != PERIODS},
    ignore=rf"^mask_token$|^(local_cls_norm|projectors)\.|{HEADS}",
    finalise=_dinov3_finalise,
)
"""`DinoVisionTransformer` of DINOv3; the norm of class tokens of local crops, which only training uses, is left out."""
