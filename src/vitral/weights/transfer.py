"""Starting a new task from trained weights (paper, section 3.2)."""

from dataclasses import fields

import torch
from torch import Tensor

from vitral.errors import UserError
from vitral.models import Model
from vitral.vit import ViT
from vitral.weights.patches import adapt_channels, resize_patches

__all__ = ["transfer"]

REGULARISATION = {"dropout", "patch_dropout", "drop_path", "drop_path_form"}
MAY_CHANGE = {
    "image_size",
    "patch_size",
    "channels",
    "num_classes",
    "representation_size",
    "head_bias",
    *REGULARISATION,
}
"""Parts of the architecture that a new task chooses for itself; how positions are resampled is the trained model's."""
FIRST_LAYERS = ("patch_embed.backbone.stem.conv.weight", "stem.conv.weight", "patch_embed.proj.weight")
"""The weight that meets the image: of a hybrid, a ResNet, a plain Vision Transformer."""


@torch.no_grad()
def transfer(source: Model, target: Model, *, classes: tuple[str, ...]) -> list[str]:
    """Copies a trained model's weights into a fresh one for other classes, another resolution or other images.

    The whole pre-training head goes; the new one stays zero, unless head and classes are the same. Positions are
    interpolated on the patch grid; the first layer is adapted to another patch size or other channels.

    Args:
        source: the trained model.
        target: a freshly initialised model of the same architecture, written in place.
        classes: names of the new task's classes.

    Returns:
        One sentence on the head, and one on everything else that was not simply copied.

    Raises:
        UserError: the two models differ in more than a new task may choose.
    """
    _check_architectures(source, target)
    state, fresh = source.state_dict(), target.state_dict()
    said = [_with_head(state, fresh, keep=_same_head(source, target, classes), classes=len(classes))]
    if source.config.channels != target.config.channels:
        first = next(name for name in FIRST_LAYERS if name in state)
        state[first] = adapt_channels(state[first], target.config.channels)
        said.append(f"input channels adapted from {source.config.channels} to {target.config.channels}")
    if isinstance(source, ViT) and isinstance(target, ViT):
        said += _with_grid(state, fresh, source, target)
    target.load_state_dict(state)
    return said


def _same_head(source: Model, target: Model, classes: tuple[str, ...]) -> bool:
    before, after = (getattr(model.config, "representation_size", None) for model in (source, target))
    return before == after and source.card is not None and source.card.classes == classes


def _with_head(state: dict[str, Tensor], fresh: dict[str, Tensor], *, keep: bool, classes: int) -> str:
    """Puts the fresh head into `state` unless the trained one is kept; says which."""
    if keep:
        return "head kept: the classes are the same"
    for name in [name for name in state if _in_head(name)]:
        del state[name]
    state |= {name: tensor for name, tensor in fresh.items() if _in_head(name)}
    return f"new zero head for {classes} classes"


def _with_grid(state: dict[str, Tensor], fresh: dict[str, Tensor], source: ViT, target: ViT) -> list[str]:
    """Fits patch embedding and positions in `state` to the new patches; one sentence for each that changes."""
    said = []
    (p, q), (r, s) = source.config.patch_hw, target.config.patch_hw
    if (p, q) != (r, s):
        *_, height, width = fresh["patch_embed.proj.weight"].shape
        state["patch_embed.proj.weight"] = resize_patches(state["patch_embed.proj.weight"], (height, width))
        said.append(f"patch embedding resized from {p}x{q} to {r}x{s} pixels")
    (a, b), (c, d) = source.config.grid, target.config.grid
    if "pos_embed" in state and (a, b) != (c, d):
        state["pos_embed"] = source.positions.resampled(state["pos_embed"], (c, d))
        said.append(f"positions interpolated from {a}x{b} to {c}x{d} patches")
    return said


def _check_architectures(source: Model, target: Model) -> None:
    """Compares configurations, not only shapes: another number of heads or another GELU would fit in silence."""
    if type(source) is not type(target):
        raise UserError(
            f"the trained model is a {type(source).__name__}, not a {type(target).__name__}: "
            "leave out --model.name, or start from other weights"
        )
    for field in fields(source.config):
        trained, wanted = getattr(source.config, field.name), getattr(target.config, field.name)
        if field.name not in MAY_CHANGE and trained != wanted:
            raise UserError(
                f"the trained model has another architecture: its {field.name} is {trained}, not {wanted}; "
                f"only {', '.join(sorted(MAY_CHANGE))} may change"
            )


def _in_head(name: str) -> bool:
    return name.startswith(("head.", "pre_logits."))
