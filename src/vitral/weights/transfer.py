"""Copying trained weights into a model for a new task (paper, section 3.2)."""

from dataclasses import fields, replace

import torch
from torch import Tensor

from vitral.errors import UserError
from vitral.models import Model
from vitral.vit import ViT
from vitral.weights.patch_embed import adapt_input_conv, resample_patch_embed

__all__ = ["transfer_weights"]

REGULARISATION = {"dropout", "attention_dropout", "patch_dropout", "drop_path", "drop_path_form"}
MAY_CHANGE = {
    "image_size",
    "patch_size",
    "channels",
    "num_classes",
    "representation_size",
    "head_bias",
    "position_resample",
    *REGULARISATION,
}
"""Fields in which the two architectures may differ."""
FIRST_LAYERS = ("patch_embed.backbone.stem.conv.weight", "stem.conv.weight", "patch_embed.proj.weight")
"""The first convolution: of a hybrid, of a ResNet, of a plain Vision Transformer."""


@torch.no_grad()
def transfer_weights(source: Model, target: Model, *, classes: tuple[str, ...] | None) -> list[str]:
    """Copies a trained model's weights into `target`, which may differ in classes, image size, patch size and channels.

    The new head stays zero, unless head and class names are the same. Positions are interpolated on the patch grid, and
    the first convolution is adapted to another patch size or number of channels. Until `target` is trained or saved, it
    refuses to interpolate its positions a second time.

    Args:
        source: the trained model.
        target: a freshly initialised model of the same architecture, modified in place.
        classes: class names of the new task; None: it predicts a number, and always gets a new head.

    Returns:
        One sentence on the head, and one for each tensor that was not simply copied.

    Raises:
        UserError: the architectures differ in a field that is not in `MAY_CHANGE`.
    """
    _check_architectures(source, target)
    state, fresh = source.state_dict(), target.state_dict()
    keep = _same_head(source, target, classes)
    notes = [_replace_head(state, fresh, keep=keep, classes=None if classes is None else len(classes))]
    if source.config.channels != target.config.channels:
        first = next(name for name in FIRST_LAYERS if name in state)
        state[first] = adapt_input_conv(state[first], target.config.channels)
        notes.append(f"input channels adapted from {source.config.channels} to {target.config.channels}")
    if isinstance(source, ViT) and isinstance(target, ViT):
        notes += _resize_grid(state, fresh, source, target)
    target.load_state_dict(state)
    return notes


def _same_head(source: Model, target: Model, classes: tuple[str, ...] | None) -> bool:
    before, after = (getattr(model.config, "representation_size", None) for model in (source, target))
    return before == after and source.card is not None and source.card.classes == classes


def _replace_head(state: dict[str, Tensor], fresh: dict[str, Tensor], *, keep: bool, classes: int | None) -> str:
    """Replaces the head in `state` by the fresh one unless `keep`; returns a sentence on it."""
    if keep:
        return "head kept: the classes are the same" if classes else "no trained head"
    for name in [name for name in state if _in_head(name)]:
        del state[name]
    state |= {name: tensor for name, tensor in fresh.items() if _in_head(name)}
    return "new zero head for a number" if classes is None else f"new zero head for {classes} classes"


def _resize_grid(state: dict[str, Tensor], fresh: dict[str, Tensor], source: ViT, target: ViT) -> list[str]:
    """Resizes patch embedding and positions in `state`; returns one sentence for each change."""
    notes = []
    (p, q), (r, s) = source.config.patch_hw, target.config.patch_hw
    if (p, q) != (r, s):
        *_, height, width = fresh["patch_embed.proj.weight"].shape
        state["patch_embed.proj.weight"] = resample_patch_embed(state["patch_embed.proj.weight"], (height, width))
        notes.append(f"patch embedding resized from {p}x{q} to {r}x{s} pixels")
    (a, b), (c, d) = source.config.grid, target.config.grid
    if "pos_embed" in state and (a, b) != (c, d):
        positions = replace(source.positions, resample=target.positions.resample)
        state["pos_embed"] = positions.resampled(state["pos_embed"], (c, d))
        target.positions = replace(target.positions, resampled_from=(a, b))
        notes.append(f"positions interpolated from {a}x{b} to {c}x{d} patches")
    return notes


def _check_architectures(source: Model, target: Model) -> None:
    """Compares configurations: with another number of heads or another GELU, the shapes would be the same."""
    if type(source) is not type(target):
        raise UserError(
            f"the trained model is a {type(source).__name__}, not a {type(target).__name__}: "
            "leave out --model.name, or start from other weights"
        )
    for field in fields(source.config):
        before, after = getattr(source.config, field.name), getattr(target.config, field.name)
        if field.name not in MAY_CHANGE and before != after:
            raise UserError(
                f"the trained model has another architecture: its {field.name} is {before}, not {after}; "
                f"only {', '.join(sorted(MAY_CHANGE))} may change"
            )


def _in_head(name: str) -> bool:
    return name.startswith(("head.", "pre_logits."))
