"""Random crops of each image, made on the batch's device."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from vitral.objectives.colours import NUM_COLOUR_DRAWS, Colours, change_colours
from vitral.objectives.prng import uniforms

__all__ = ["crop_boxes", "random_resized_crop"]

MAX_ASPECT = 4 / 3
"""Largest ratio of a crop's sides."""

NUM_DRAWS = 7
"""Random numbers of each crop: area, aspect, left, top, flip, brightness, contrast; those of `Colours` follow."""

PLAIN = Colours()
"""Every crop is jittered, and nothing else."""


def random_resized_crop(
    images: Float[Tensor, "b c h w"],
    keys: Int64[Tensor, " b"],
    *,
    index: int,
    area: tuple[float, float],
    size: tuple[int, int],
    jitter: float,
    colours: Colours = PLAIN,
) -> Float[Tensor, "b c p q"]:
    """A random crop of each image, resized, flipped half the time, with jittered brightness and contrast, and then with
    other changes of its colours.

    Args:
        images: values in 0..1.
        keys: seeds of each image's random numbers.
        index: number of the crop among those of an image; each has its own random numbers.
        area: smallest and largest area, as fractions of the image.
        size: height and width of the result in pixels.
        jitter: brightness and contrast are multiplied by a number within this distance of 1.
        colours: the other changes, and how often crops are jittered.
    """
    draws = uniforms(keys, NUM_DRAWS + NUM_COLOUR_DRAWS, stream=index)
    draws, colour_draws = draws.split([NUM_DRAWS, NUM_COLOUR_DRAWS], dim=1)
    left, top, width, height = crop_boxes(draws, area, aspect=images.shape[3] / images.shape[2]).unbind(1)
    sign = torch.where(draws[:, 4] < 0.5, -1.0, 1.0)
    zero = torch.zeros_like(left)
    # affine maps from the crop's coordinates in -1..1 to the image's
    x = torch.stack([width * sign, zero, 2 * left + width - 1], dim=1)
    y = torch.stack([zero, height, 2 * top + height - 1], dim=1)
    grid = F.affine_grid(torch.stack([x, y], dim=1), [len(images), images.shape[1], *size], align_corners=False)
    crops = F.grid_sample(images, grid.to(images.dtype), padding_mode="border", align_corners=False)
    factors = torch.where(colour_draws[:, :1] < colours.jitter_probability, 1 + jitter * (2 * draws[:, 5:] - 1), 1.0)
    brightness, contrast = factors.to(images.dtype)[:, :, None, None, None].unbind(1)
    means = crops.mean((1, 2, 3), keepdim=True)
    crops = (((crops - means) * contrast + means) * brightness).clamp(0, 1)
    return change_colours(crops, colour_draws, colours)


def crop_boxes(draws: Float[Tensor, "b n"], area: tuple[float, float], *, aspect: float = 1.0) -> Float[Tensor, "b 4"]:
    """Left, top, width and height of crops, as fractions of the image. Areas are uniform, aspects uniform in their
    logarithm; a side longer than the image's is shortened to it.

    Args:
        draws: in [0, 1): area, aspect, left, top.
        area: smallest and largest.
        aspect: width over height of the image.
    """
    areas = area[0] + (area[1] - area[0]) * draws[:, 0]
    ratio = torch.exp((2 * draws[:, 1] - 1) * math.log(MAX_ASPECT)) / aspect
    width, height = (areas * ratio).sqrt().clamp(max=1), (areas / ratio).sqrt().clamp(max=1)
    return torch.stack([(1 - width) * draws[:, 2], (1 - height) * draws[:, 3], width, height], dim=1)
