"""The augmentations of a batch, one after another."""

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from vitral.data.augment.config import AugmentConfig
from vitral.data.augment.draws import Draws
from vitral.data.augment.geometry import flip, warp
from vitral.data.augment.mix import mix
from vitral.data.examples import Examples
from vitral.data.preprocess import Preprocessing

__all__ = ["augmented"]


def augmented(
    images: UInt8[Tensor, "b h w c"],
    labels: Int64[Tensor, " b"],
    draws: Draws,
    *,
    config: AugmentConfig,
    preprocessing: Preprocessing,
) -> Examples:
    """What a step learns from, on the device of the images.

    Args:
        images: as read.
        labels: class of each image, or UNREADABLE.
        draws: on any device.
    """
    device = images.device
    if config.flip:
        images = flip(images, draws.flips.to(device, non_blocking=True))
    floats = preprocessing.normalise(images)
    if draws.warps is not None:
        black = preprocessing.normalise(torch.zeros_like(images[:1, :1, :1]))
        floats = warp(floats - black, draws.warps.to(device, non_blocking=True)) + black
    examples = Examples(images=floats, labels=labels)
    return examples if draws.mixing is None else mix(examples, draws.mixing.moved(device))
