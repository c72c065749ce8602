"""What a format can store of a model: LayerScale is folded into other weights, the rest is refused in words."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch

from vitral.models import blank_model, give_buffers
from vitral.vit import ViT
from vitral.vit_config import ViTConfig

__all__ = ["POOLING", "fold_layer_scale", "refusal"]

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


def refusal(format: str, config: ViTConfig, *, unexpected: Sequence[str], missing: Sequence[str]) -> str:
    """The sentence on a model that a format cannot store.

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
    return f"the format {format} cannot store this model: {'; '.join(reasons)}"


def _listed(names: Iterable[str]) -> str:
    """The parts of a model that these tensors belong to."""
    *others, last = dict.fromkeys(map(_part, names))
    return f"{', '.join(others)} and {last}" if others else last


def _part(name: str) -> str:
    matches = (words for pattern, words in PARTS.items() if re.match(pattern, name))
    return next(matches, name)
