"""Changes of colours, blur and solarisation of crops, different for each image, on the batch's device."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vitral.data.augment.colour import LUMA, gaussian_blur

__all__ = ["NUM_COLOUR_DRAWS", "Colours", "change_colours"]

NUM_COLOUR_DRAWS = 7
"""Random numbers of each crop: whether to jitter, saturation, hue, whether grey, whether to blur, its width, whether to
solarise.
"""

BLUR = (0.1, 2.0)
"""Smallest and largest standard deviation of the blur in pixels, as in DINO."""

THRESHOLD = 128 / 255
"""Values from here on are inverted by solarisation, as in Pillow."""


@dataclass(frozen=True, kw_only=True)
class Colours:
    """How the colours of a crop change."""

    jitter_probability: float = 1.0
    saturation: float = 0.0
    """Largest relative change."""
    hue: float = 0.0
    """Largest shift, as a fraction of the circle of hues."""
    grey: float = 0.0
    """Probability of greyscale."""
    blur: float = 0.0
    """Probability of a Gaussian blur."""
    solarise: float = 0.0
    """Probability of solarisation."""


def change_colours(
    crops: Float[Tensor, "b c h w"], draws: Float[Tensor, "b 7"], colours: Colours
) -> Float[Tensor, "b c h w"]:
    """Saturation, hue, greyscale, blur and solarisation, in this order; grey images have only the last two.

    Args:
        crops: values in 0..1.
        draws: in [0, 1), see `NUM_COLOUR_DRAWS`.
        colours: a change whose strength or probability is 0 is not computed.
    """
    applied, saturation, hue, grey, blur, width, solarise = (draw[:, None, None, None] for draw in draws.unbind(1))
    is_coloured = crops.shape[1] == 3
    if colours.saturation and is_coloured:
        factor = 1 + colours.saturation * (2 * saturation - 1)
        factor = torch.where(applied < colours.jitter_probability, factor, 1.0)
        crops = torch.lerp(_luma(crops).expand_as(crops), crops, factor).clamp(0, 1)
    if colours.hue and is_coloured:
        shift = colours.hue * (2 * hue - 1)
        crops = _shift_hue(crops, torch.where(applied < colours.jitter_probability, shift, 0.0))
    if colours.grey and is_coloured:
        crops = torch.where(grey < colours.grey, _luma(crops), crops)
    if colours.blur:
        deviation = BLUR[0] + (BLUR[1] - BLUR[0]) * width.flatten()
        with torch.autocast(crops.device.type, enabled=False):  # 16 bits would leave fewer levels than the images have
            crops = torch.where(blur < colours.blur, gaussian_blur(crops, deviation), crops)
    if colours.solarise:
        inverted = torch.where(crops < THRESHOLD, crops, 1 - crops)
        crops = torch.where(solarise < colours.solarise, inverted, crops)
    return crops


def _luma(crops: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    red, green, blue = (plane * weight for plane, weight in zip(crops.split(1, 1), LUMA, strict=True))
    return red + green + blue


def _shift_hue(crops: Float[Tensor, "b 3 h w"], shift: Float[Tensor, "b 1 1 1"]) -> Float[Tensor, "b 3 h w"]:
    """Turns the hue (of hue, saturation and value) by a fraction of the circle."""
    red, green, blue = crops.split(1, 1)
    value, low = crops.amax(1, keepdim=True), crops.amin(1, keepdim=True)
    chroma = value - low
    divisor = torch.where(chroma > 0, chroma, 1)
    # in sixths of the circle, from red
    hue = torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4)
    hue = torch.where(value == red, (green - blue) / divisor, hue) + 6 * shift
    # each channel falls from the value to the lowest as the hue moves away from its own
    places = hue + torch.tensor([5.0, 3.0, 1.0], device=crops.device).view(1, 3, 1, 1)
    places = places.remainder(6)
    return value - chroma * torch.minimum(places, 4 - places).clamp(0, 1)
