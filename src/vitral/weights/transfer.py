"""Starting a new task from trained weights (paper, section 3.2)."""

import torch

from vitral.vit import ViT
from vitral.weights.positions import resample_positions

__all__ = ["transfer"]


@torch.no_grad()
def transfer(source: ViT, target: ViT, *, classes: tuple[str, ...]) -> list[str]:
    """Copies a trained model's weights into a fresh one for other classes or another resolution.

    The whole pre-training head goes; the new one stays zero, unless head and classes are the same. Positions are
    interpolated on the patch grid.

    Args:
        source: the trained model.
        target: a freshly initialised model of the same width and depth, written in place.
        classes: names of the new task's classes.

    Returns:
        One sentence for each thing that was not simply copied.

    Raises:
        ValueError: the two models differ in more than head, resolution and dropout.
    """
    said = []
    state = source.state_dict()
    wanted = target.state_dict()
    head = [name for name in wanted if name.startswith(("head.", "pre_logits."))]
    same_head = all(name in state and state[name].shape == wanted[name].shape for name in head)
    if not (same_head and source.card is not None and source.card.classes == classes):
        state = {name: tensor for name, tensor in state.items() if not name.startswith(("head.", "pre_logits."))}
        state |= {name: wanted[name] for name in head}
        said.append(f"new zero head for {target.config.num_classes} classes")
    if "pos_embed" in state and "pos_embed" in wanted and source.config.grid != target.config.grid:
        state["pos_embed"] = resample_positions(
            state["pos_embed"], source=source.config.grid, target=target.config.grid
        )
        (a, b), (c, d) = source.config.grid, target.config.grid
        said.append(f"positions interpolated from {a}x{b} to {c}x{d} patches")
    odd = sorted(
        name
        for name in state.keys() | wanted.keys()
        if name not in state or name not in wanted or state[name].shape != wanted[name].shape
    )
    if odd:
        raise ValueError(
            f"the trained model has another architecture: {len(odd)} tensors differ, first {odd[0]}; "
            "only image size, classes and dropout may change"
        )
    target.load_state_dict(state)
    return said

