"""Augments a batch of decoded images on its device, and normalises it: the training examples of a step."""

from functools import partial

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor

from vitral.data.augment.config import AugmentConfig
from vitral.data.augment.geometry import flip, warp
from vitral.data.augment.mixing import Examples, mix
from vitral.data.augment.params import AugmentParams
from vitral.data.images.patch_rows import flip_patches
from vitral.data.images.preprocess import PixelBatch, Preprocessing

__all__ = ["augment_batch"]


def augment_batch(
    images: PixelBatch,
    labels: Int64[Tensor, " b"] | Float[Tensor, "b k"],
    params: AugmentParams,
    *,
    config: AugmentConfig,
    preprocessing: Preprocessing,
) -> Examples:
    """Applies, in this order: flips, colours, normalisation, affine warp, random erasing, mixup or CutMix."""
    device = images.device
    mirror = partial(flip_patches, patch_hw=preprocessing.patch_hw) if preprocessing.keeps_aspect else flip
    if config.flip:
        images = mirror(images, params.flips)
    if "vertical" in params.uniforms:
        flips = torch.from_numpy(params.uniforms["vertical"][:, 0] < 0.5)
        images = mirror(images, flips, axis=1)
    floats = preprocessing.normalise(_augment_colours(images, params, config))
    if params.warps is not None:
        # zero may be an extreme value of a channel, so the border of images that are no pictures is their mean
        black = 0.0 if preprocessing.bands else preprocessing.normalise(torch.zeros_like(images[:1, :1, :1]))
        floats = warp(floats - black, params.warps.to(device, non_blocking=True)) + black
    if "erase" in params.uniforms:
        from vitral.data.augment.erasing import random_erase

        floats = random_erase(floats, params.uniforms["erase"], probability=config.erase, fill=config.erase_fill)
    examples = Examples(images=floats, labels=labels, keys=params.keys.to(device, non_blocking=True))
    return examples if params.mix_uniforms is None else mix(examples, params.mix_uniforms, config)


def _augment_colours(images: PixelBatch, params: AugmentParams, config: AugmentConfig) -> PixelBatch:
    """RandAugment, DeiT III's 3-Augment, colour jitter."""
    uniforms = params.uniforms
    if not uniforms.keys() & {"randaugment", "three", "jitter"}:
        return images
    # imported here because torchvision takes a second to import, and few runs need it
    from vitral.data.augment.colour import jitter, three_augment
    from vitral.data.augment.randaugment import randaugment

    planes = rearrange(images, "b h w c -> b c h w").contiguous()
    if "randaugment" in uniforms:
        kind, magnitude = config.randaugment, config.randaugment_magnitude
        planes = randaugment(planes, uniforms["randaugment"], variant=kind, magnitude=magnitude)
    if "three" in uniforms:
        planes = three_augment(planes, uniforms["three"])
    if "jitter" in uniforms:
        planes = jitter(planes, uniforms["jitter"], strength=config.colour_jitter)
    return rearrange(planes, "b c h w -> b h w c")
