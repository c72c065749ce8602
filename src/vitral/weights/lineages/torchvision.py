"""torchvision's format: `VisionTransformer`."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vitral.vit_config import ViTConfig
from vitral.weights.lineages.lineage import (
    IMAGENET,
    Images,
    Lineage,
    Tensors,
    count_indices,
    default_num_heads,
    grid_side,
)
from vitral.weights.mapping import TensorMapping

__all__ = ["TORCHVISION"]

BLOCK = "encoder.layers.encoder_layer_{}."
BLOCK_MODULES = {
    "norm1": "ln_1",
    "attn.proj": "self_attention.out_proj",
    "norm2": "ln_2",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.3",
}
MODULES = {
    "patch_embed.proj": "conv_proj",
    "norm": "encoder.ln",
    "head": "heads.head",
}


OLD_NAMES = {r"\.mlp\.linear_1\.": ".mlp.0.", r"\.mlp\.linear_2\.": ".mlp.3."}
"""Names of the published files; torchvision renames them on loading, as here."""


def _canonicalise(tensors: Tensors) -> dict[str, Tensor]:
    renamed = dict(tensors)
    for old, new in OLD_NAMES.items():
        renamed = {re.sub(old, new, name): tensor for name, tensor in renamed.items()}
    return renamed


def _matches(tensors: Tensors) -> bool:
    return "conv_proj.weight" in tensors and BLOCK.format(0) + "ln_1.weight" in tensors


def _infer_config(tensors: Tensors, upstream_config: Mapping[str, Any]) -> ViTConfig:
    """Sizes come from the shapes; the numerics are torchvision's: exact GELU, epsilon 1e-6, its resampling."""
    width, channels, p, _ = tensors["conv_proj.weight"].shape
    hidden = tensors.get("heads.pre_logits.weight")
    return ViTConfig(
        image_size=grid_side(tensors["encoder.pos_embedding"].shape[1] - 1, name="encoder.pos_embedding") * p,
        patch_size=p,
        channels=channels,
        width=width,
        depth=count_indices(tensors, "encoder.layers.encoder_layer_", ".ln_1.weight"),
        num_heads=upstream_config.get("num_heads") or default_num_heads(width),
        mlp_dim=tensors[BLOCK.format(0) + "mlp.0.weight"].shape[0],
        num_classes=tensors["heads.head.weight"].shape[0] if "heads.head.weight" in tensors else 1000,
        position_resample="torchvision",
        gelu="erf",
        representation_size=None if hidden is None else len(hidden),
    )


def _mapping(c: ViTConfig) -> list[TensorMapping]:
    names = dict(MODULES) | ({"pre_logits.0": "heads.pre_logits"} if c.representation_size is not None else {})
    mapping = [
        TensorMapping("cls_token", ("class_token",)),
        TensorMapping("pos_embed", ("encoder.pos_embedding",)),
    ]
    for index in range(c.depth):
        block, upstream_block = f"blocks.{index}.", BLOCK.format(index)
        names |= {block + part: upstream_block + upstream_part for part, upstream_part in BLOCK_MODULES.items()}
        for kind in ("weight", "bias"):
            mapping.append(
                TensorMapping(f"{block}attn.qkv.{kind}", (f"{upstream_block}self_attention.in_proj_{kind}",))
            )
    for name, upstream in names.items():
        mapping += [TensorMapping(f"{name}.{kind}", (f"{upstream}.{kind}",)) for kind in ("weight", "bias")]
    return mapping


TORCHVISION = Lineage(
    name="torchvision",
    head="heads.head",
    matches=_matches,
    infer_config=_infer_config,
    mapping=_mapping,
    images=lambda config, stated: Images(**IMAGENET, crop_ratio=0.875, like="torchvision's IMAGENET1K_V1"),
    canonicalise=_canonicalise,
)
