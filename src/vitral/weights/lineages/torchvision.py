"""torchvision's format of Vision Transformers."""

from collections.abc import Mapping
from typing import Any

from vitral.vit_config import ViTConfig
from vitral.weights.lineages.lineage import Arrays, Lineage, counted, side_of, usual_heads
from vitral.weights.mapping import Row

__all__ = ["TORCHVISION"]

BLOCK = "encoder.layers.encoder_layer_{}."
PARTS = {
    "norm1": "ln_1",
    "attn.proj": "self_attention.out_proj",
    "norm2": "ln_2",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.3",
}
WHOLE = {
    "patch_embed.proj": "conv_proj",
    "norm": "encoder.ln",
    "head": "heads.head",
}


def _recognises(arrays: Arrays) -> bool:
    return "conv_proj.weight" in arrays and BLOCK.format(0) + "ln_1.weight" in arrays


def _config(arrays: Arrays, settings: Mapping[str, Any]) -> ViTConfig:
    """What the shapes tell; numerics are torchvision's: exact GELU, epsilon 1e-6, its own resampling."""
    width, channels, p, _ = arrays["conv_proj.weight"].shape
    return ViTConfig(
        image_size=side_of(arrays["encoder.pos_embedding"].shape[1] - 1, name="encoder.pos_embedding") * p,
        patch_size=p,
        channels=channels,
        width=width,
        depth=counted(arrays, "encoder.layers.encoder_layer_", ".ln_1.weight"),
        num_heads=settings.get("num_heads") or usual_heads(width),
        mlp_dim=arrays[BLOCK.format(0) + "mlp.0.weight"].shape[0],
        num_classes=arrays["heads.head.weight"].shape[0] if "heads.head.weight" in arrays else 1000,
        position_resample="torchvision",
        gelu="erf",
    )


def _rows(c: ViTConfig) -> list[Row]:
    names = dict(WHOLE)
    rows = [
        Row(ours="cls_token", theirs=("class_token",)),
        Row(ours="pos_embed", theirs=("encoder.pos_embedding",)),
    ]
    for index in range(c.depth):
        own, theirs = f"blocks.{index}.", BLOCK.format(index)
        names |= {own + part: theirs + their_part for part, their_part in PARTS.items()}
        for kind in ("weight", "bias"):
            rows.append(Row(ours=f"{own}attn.qkv.{kind}", theirs=(f"{theirs}self_attention.in_proj_{kind}",)))
    for own, theirs in names.items():
        rows += [Row(ours=f"{own}.{kind}", theirs=(f"{theirs}.{kind}",)) for kind in ("weight", "bias")]
    return rows


TORCHVISION = Lineage(
    name="torchvision",
    recognises=_recognises,
    config=_config,
    rows=_rows,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
