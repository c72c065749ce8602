"""Activation checkpointing: what a block computes is not kept for the backward pass, but computed again there."""

from functools import partial

from torch.utils.checkpoint import checkpoint

from vitral.models import Model, repeated

__all__ = ["recompute_blocks"]


def recompute_blocks(model: Model) -> None:
    """Makes a Transformer's blocks, or a ResNet's units, keep their input alone; results stay the same.

    Names of the weights do not change. Make copies of the model before, as a copy would share its blocks' forward.
    """
    for block in repeated(model):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
