"""Activation checkpointing: the backward pass recomputes the activations of each block."""

from functools import partial

from torch.utils.checkpoint import checkpoint

from vitral.models import Model, repeated

__all__ = ["recompute_blocks"]


def recompute_blocks(model: Model) -> None:
    """Makes the blocks of a Transformer, or the units of a ResNet, save only their input; results stay the same.

    Parameter names stay the same. Copy the model before, because a copy made later would call the original's blocks.
    """
    for block in repeated(model):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
