"""Derives `timm_models.tsv` and `timm_preprocessing.tsv` from the installed timm.

`python tests/parity/timm_table.py models > FILE` rewrites the first, and `preprocessing` the second.
"""

import sys
from collections.abc import Iterator
from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg
from timm.models._registry import _deprecated_models, _model_pretrained_cfgs
from torch import nn

from vitral.weights.lineages.timm_models import HEADER, timm_models
from vitral.weights.lineages.timm_preprocessing import HEADER as IMAGES_HEADER

__all__ = ["derived_preprocessing", "derived_table"]

MODULES = ("vision_transformer", "vision_transformer_hybrid", "deit", "eva", "beit")
ACTIVATIONS = {"GELU": "gelu", "GELUTanh": "gelu_tanh", "QuickGELU": "quick_gelu", "SiLU": "silu"}


def derived_table() -> str:
    """The table's text: one line for each model whose tensor names Vitral takes for timm's."""
    # Sapiens2 has separate projections of queries, keys and values
    names = [name for module in MODULES for name in timm.list_models(module=module, exclude_filters="*sapiens*")]
    rows = {name: row for name in names for row in _row(name)}
    renamed = {old: new.partition(".")[0] for old, new in _deprecated_models.items() if new}
    rows |= {old: rows[new] for old, new in renamed.items() if new in rows}
    lines = [HEADER, *((name, *rows[name]) for name in sorted(rows))]
    return "\n".join(map("\t".join, lines)) + "\n"


def _row(name: str) -> Iterator[tuple[str, ...]]:
    with torch.device("meta"):
        model = timm.create_model(name, depth=1)
    tensors = model.state_dict()
    if not {"patch_embed.proj.weight", "blocks.0.attn.qkv.weight"} <= tensors.keys():
        return
    block = model.get_submodule("blocks.0")
    rope = getattr(model, "rope", None)
    activation = next(
        ACTIVATIONS[type(module).__name__]
        for path, module in block.named_modules()
        if path.endswith("mlp.act") and not isinstance(module, nn.Identity)
    )
    yield (
        str(block.get_submodule("attn").num_heads),
        activation,
        f"{block.get_submodule('norm1').eps:g}",
        str(model.global_pool),
        "dinov3" if type(rope).__name__ == "RotaryEmbeddingDinoV3" else "",
        _difference(model, tensors, rope),
    )


def _difference(model: Any, tensors: dict[str, Any], rope: Any) -> str:
    """What the model computes that Vitral does not; empty if there is nothing."""
    block = type(model.blocks[0]).__name__
    inside = {"attn.norm.weight", "mlp.norm.weight", "attn.lambda_q1"}
    differences = {
        "has rotary positions of another form than DINOv3's": rope is not None
        and type(rope).__name__ != "RotaryEmbeddingDinoV3",
        "adds relative position biases": type(model).__name__ == "Beit",
        "normalises after attention and MLP": block.endswith(("PostBlock", "PostNorm")),
        "normalises with RMSNorm": "blocks.0.norm1.bias" not in tensors,
        "has differential attention": "blocks.0.attn.lambda_q1" in tensors,
        "normalises inside attention and MLP": any(f"blocks.0.{name}" in tensors for name in inside),
        "has no final norm": not {"norm.weight", "fc_norm.weight"} & tensors.keys(),
        "pools class token and registers too": model.global_pool != "token"
        and bool(getattr(model, "pool_include_prefix", False)),
        "has a ResNet of another kind": any("backbone.conv1." in name for name in tensors),
    }
    return next((difference for difference, applies in differences.items() if applies), "")


def derived_preprocessing() -> str:
    """The text of the other table: one line for each architecture, and for each tag that differs from its default."""
    rows = {name: row for name in timm_models() if (row := _images(_deprecated_models.get(name) or name))}
    for tagged in _model_pretrained_cfgs:
        row = _images(tagged)
        if "." in tagged and row and row != rows.get(name := tagged.partition(".")[0]) and name in rows:
            rows[tagged] = row
    lines = [IMAGES_HEADER, *((name, *rows[name]) for name in sorted(rows))]
    return "\n".join(map("\t".join, lines)) + "\n"


def _images(name: str | None) -> tuple[str, ...] | None:
    cfg = get_pretrained_cfg(name) if name in _model_pretrained_cfgs or (name and "." not in name) else None
    if cfg is None:
        return None
    values = (",".join(repr(float(value)) for value in values) for values in (cfg.mean, cfg.std))
    return (*values, f"{cfg.crop_pct:g}", cfg.crop_mode, cfg.interpolation)


if __name__ == "__main__":
    print({"models": derived_table, "preprocessing": derived_preprocessing}[sys.argv[1]](), end="")
