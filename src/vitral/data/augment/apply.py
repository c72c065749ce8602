"""From a batch as read to what a step learns from: all that varies, on the batch's own device."""

import torch
from einops import rearrange
from jaxtyping import Int64, UInt8
from torch import Tensor

from vitral.data.augment.config import AugmentConfig
from vitral.data.augment.draws import Draws
from vitral.data.augment.geometry import flip, warp
from vitral.data.augment.mixing import Examples, mixed
from vitral.data.images.preprocess import Preprocessing

__all__ = ["augmented"]


def augmented(
    images: UInt8[Tensor, "b h w c"],
    labels: Int64[Tensor, " b"],
    draws: Draws,
    *,
    config: AugmentConfig,
    preprocessing: Preprocessing,
) -> Examples:
    """Varies images in this order: mirror, colours, standardise, warp, erase, mix."""
    device = images.device
    if config.flip:
        images = flip(images, draws.flips)
    if "vertical" in draws.numbers:
        flips = torch.from_numpy(draws.numbers["vertical"][:, 0] < 0.5)
        images = flip(images, flips, axis=1)
    floats = preprocessing.normalise(_coloured(images, draws, config))
    if draws.warps is not None:
        black = preprocessing.normalise(torch.zeros_like(images[:1, :1, :1]))
        floats = warp(floats - black, draws.warps.to(device, non_blocking=True)) + black
    if "erase" in draws.numbers:
        from vitral.data.augment.erasing import erased

        floats = erased(floats, draws.numbers["erase"], chance=config.erase, fill=config.erase_fill)
    examples = Examples(images=floats, labels=labels, keys=draws.keys.to(device, non_blocking=True))
    return examples if draws.mixing is None else mixed(examples, draws.mixing, config)


def _coloured(images: UInt8[Tensor, "b h w c"], draws: Draws, config: AugmentConfig) -> UInt8[Tensor, "b h w c"]:
    """RandAugment, DeiT III's three choices, jitter."""
    numbers = draws.numbers
    if not numbers.keys() & {"randaugment", "three", "jitter"}:
        return images
    # imported here, as torchvision takes a second, and few runs need it
    from vitral.data.augment.colour import jitter, three_augment
    from vitral.data.augment.randaugment import randaugment

    planes = rearrange(images, "b h w c -> b c h w").contiguous()
    if "randaugment" in numbers:
        kind, magnitude = config.randaugment, config.randaugment_magnitude
        planes = randaugment(planes, numbers["randaugment"], variant=kind, magnitude=magnitude)
    if "three" in numbers:
        planes = three_augment(planes, numbers["three"])
    if "jitter" in numbers:
        planes = jitter(planes, numbers["jitter"], strength=config.colour_jitter)
    return rearrange(planes, "b c h w -> b h w c")
