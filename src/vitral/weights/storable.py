"""What a format can store of a model: LayerScale is folded into other weights, the rest is refused in words."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch

from vitral.errors import UserError
from vitral.models import blank_model, give_buffers
from vitral.vit import ViT
from vitral.vit_config import ViTConfig

__all__ = ["NotStorable", "fold_layer_scale", "not_supported", "read_back_as", "refusal"]

PARTS = {
    r"reg_token": "registers",
    r".*\.[qk]_norm\.": "QK-norm",
    r".*\.ls\d\.": "LayerScale",
    r"dist_token|head\.dist\.": "a distillation token",
    r"norm_pre\.": "a norm before the first block",
    r"fc_norm\.": "a final norm after pooling",
    r"norm\.(weight|bias)": "a final norm before pooling",
    r"pre_logits\.": "a tanh layer before the head",
    r"pool\.": "attention pooling",
    r"patch_embed\.backbone\.": "the ResNet of a hybrid",
    r"cls_token": "a class token",
    r"pos_embed": "learned positions",
    r"patch_embed\.proj\.bias": "a bias of the patch embedding",
    r"head\.bias": "a bias of the head",
    r"head\.": "a head",
}
"""What a tensor belongs to, by a regular expression for the beginning of its name."""
POOLING = {
    "gap": "this model pools the mean of its patches",
    "cls_gap": "this model reads class token and mean side by side",
    "map": "this model pools by attention",
    "none": "this model gives one output for each patch",
}
"""How a model pools, for each `pool` but `cls`."""
POSITIONS = {
    "none": "no positions",
    "learned_1d": "learned positions",
    "learned_2d": "learned positions for rows and columns",
    "factorized_2d": "factorised positions",
    "relative": "relative positions",
    "sincos_2d": "sine-cosine positions",
    "sincos_2d_mae": "MAE's sine-cosine positions",
    "rope": "rotary positions",
}
FIELDS: dict[str, Callable[[Any], str]] = {
    "attention": lambda value: "attends along rows and columns",
    "position": lambda value: f"has {POSITIONS[value]}",
    "position_injection": lambda value: "adds its positions in every layer",
    "pool": lambda value: POOLING.get(value, "this model reads its class token").removeprefix("this model "),
    "final_norm": lambda value: "has a final norm" if value else "has no final norm",
    "pooled_norm": lambda value: f"has its final norm {'after' if value else 'before'} pooling",
    "pre_norm": lambda value: f"has {'a' if value else 'no'} norm before the first block",
    "qk_norm": lambda value: f"has {'QK-norm' if value else 'no QK-norm'}",
    "distillation": lambda value: f"has {'a' if value else 'no'} distillation token",
    "layer_scale": lambda value: "has LayerScale",
    "stem_stages": lambda value: "is a hybrid with a ResNet",
    "representation_size": lambda value: "has a tanh layer before the head",
    "num_registers": lambda value: "has a register" if value == 1 else f"has {value} registers",
    "mlp": lambda value: "has gated MLPs (SwiGLU)" if value == "swiglu" else "has MLPs without a gate",
}
"""What a model is or has, by field of the architecture and its value."""
SIZES = {
    "image_hw": "the image size",
    "patch_hw": "the patch size",
    "channels": "the number of channels",
    "num_heads": "the number of attention heads",
    "mlp_dim": "the width of the MLPs",
    "num_classes": "the number of classes",
}
"""Sizes in words; the others are their own names."""


class NotStorable(UserError):
    """A format cannot store a model; another one may."""


def not_supported(format: str, field: str, value: Any) -> NotStorable:
    """The error for a part of the architecture that a format does not have."""
    return NotStorable(f"the format {format} cannot store this model, which {FIELDS[field](value)}")


def read_back_as(format: str, field: str, before: Any, after: Any) -> NotStorable:
    """The error for a part of the architecture that would be another if the file were read again."""
    if field in FIELDS:
        return not_supported(format, field, before)
    what = SIZES.get(field, f"the {field}")
    return NotStorable(f"the format {format} cannot store this model: {what} {before} would be read back as {after}")


def fold_layer_scale(model: ViT) -> ViT:
    """The same model without LayerScale: each scale multiplies the rows of the layer before it.

    The outputs are equal up to rounding, as `scale * (W x + b)` is `(scale * W) x + scale * b`.
    """
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    for name in [name for name in state if name.endswith(".gamma")]:
        gamma = state.pop(name)
        layer = name.replace("ls1.gamma", "attn.proj").replace("ls2.gamma", "mlp.fc2")
        state[f"{layer}.weight"] = state[f"{layer}.weight"] * gamma[:, None]
        state[f"{layer}.bias"] = state[f"{layer}.bias"] * gamma
    folded = blank_model(replace(model.config, layer_scale=None))
    assert isinstance(folded, ViT)
    give_buffers(folded, torch.device("cpu"))
    folded.load_state_dict(state, assign=True)
    folded.card = model.card
    return folded.eval()


def refusal(format: str, config: ViTConfig, *, unexpected: Sequence[str], missing: Sequence[str]) -> NotStorable:
    """The error for a model whose tensors a format cannot store.

    Args:
        format: name of the format.
        config: architecture of the model.
        unexpected: the model's tensors that the format has no place for.
        missing: Vitral's names of tensors that the format needs and the model lacks.
    """
    reasons = []
    if "cls_token" in missing and config.pool in POOLING:
        unexpected = [name for name in unexpected if not name.startswith("pool.")]
        missing = [name for name in missing if name != "cls_token"]
        reasons.append(f"it has only a class token, and {POOLING[config.pool]}")
    if config.pooled_norm:
        missing = [name for name in missing if not name.startswith("norm.")]
    if unexpected:
        reasons.append(f"it has no place for {_listed(unexpected)}")
    if missing:
        reasons.append(f"it needs {_listed(missing)}, which this model does not have")
    return NotStorable(f"the format {format} cannot store this model: {'; '.join(reasons)}")


def _listed(names: Iterable[str]) -> str:
    """The parts of a model that these tensors belong to."""
    *others, last = dict.fromkeys(map(_part, names))
    return f"{', '.join(others)} and {last}" if others else last


def _part(name: str) -> str:
    matches = (words for pattern, words in PARTS.items() if re.match(pattern, name))
    return next(matches, name)
