"""Starting a new task from trained weights (paper, section 3.2)."""

from dataclasses import fields

import torch

from vitral.vit import ViT
from vitral.weights.positions import resample_positions

__all__ = ["transfer"]

MAY_CHANGE = {"image_size", "num_classes", "representation_size", "dropout", "head_bias"}
"""Parts of the architecture that a new task chooses for itself."""


@torch.no_grad()
def transfer(source: ViT, target: ViT, *, classes: tuple[str, ...]) -> list[str]:
    """Copies a trained model's weights into a fresh one for other classes or another resolution.

    The whole pre-training head goes; the new one stays zero, unless head and classes are the same. Positions are
    interpolated on the patch grid.

    Args:
        source: the trained model.
        target: a freshly initialised model of the same architecture, written in place.
        classes: names of the new task's classes.

    Returns:
        One sentence on the head, and one on positions that were not simply copied.

    Raises:
        ValueError: the two models differ in more than head, resolution and dropout.
    """
    _check_architectures(source, target)
    said = []
    state, fresh = source.state_dict(), target.state_dict()
    same_shape = source.config.representation_size == target.config.representation_size
    if not (same_shape and source.card is not None and source.card.classes == classes):
        state = {name: tensor for name, tensor in state.items() if not _in_head(name)}
        state |= {name: tensor for name, tensor in fresh.items() if _in_head(name)}
        said.append(f"new zero head for {target.config.num_classes} classes")
    else:
        said.append("head kept: the classes are the same")
    if "pos_embed" in state and source.config.grid != target.config.grid:
        state["pos_embed"] = resample_positions(
            state["pos_embed"], source=source.config.grid, target=target.config.grid
        )
        (a, b), (c, d) = source.config.grid, target.config.grid
        said.append(f"positions interpolated from {a}x{b} to {c}x{d} patches")
    target.load_state_dict(state)
    return said


def _check_architectures(source: ViT, target: ViT) -> None:
    """Compares configurations, not only shapes: another number of heads or another GELU would fit in silence."""
    for field in fields(source.config):
        trained, wanted = getattr(source.config, field.name), getattr(target.config, field.name)
        if field.name not in MAY_CHANGE and trained != wanted:
            raise ValueError(
                f"the trained model has another architecture: its {field.name} is {trained}, not {wanted}; "
                f"only {', '.join(sorted(MAY_CHANGE))} may change"
            )


def _in_head(name: str) -> bool:
    return name.startswith(("head.", "pre_logits."))
