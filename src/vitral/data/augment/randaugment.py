"""RandAugment (Cubuk et al., arXiv 1909.13719) in two published forms.

Each operation runs once, on all images of the batch that sampled it.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from jaxtyping import Float64, UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional as F

__all__ = ["VARIANTS", "randaugment"]

Images = UInt8[Tensor, "b c h w"]
Operation = Callable[[Images, int | float], Images]
"""Transforms images by a magnitude, which may be negative if its sign is random."""
GREY = 128
"""Fill of big_vision's geometric operations and of its cutout."""


def _affine(
    images: Images, *, fill: int, corner: float = 0.0, translate: tuple[int, int] = (0, 0), shear=(0.0, 0.0)
) -> Images:
    """Nearest-neighbour affine transform; a shear is a ratio, about the point (corner, corner)."""
    degrees = [math.degrees(math.atan(ratio)) for ratio in shear]
    centre = [corner, corner] if any(shear) else None
    return F.affine(
        images, angle=0.0, translate=list(translate), scale=1.0, shear=degrees, fill=[float(fill)], center=centre
    )


def _geometric(fill: int, *, corner: float) -> dict[str, Operation]:
    """Shears by a ratio, shifts by pixels, rotations by degrees."""
    return {
        "shear_x": lambda images, ratio: _affine(images, fill=fill, corner=corner, shear=(ratio, 0.0)),
        "shear_y": lambda images, ratio: _affine(images, fill=fill, corner=corner, shear=(0.0, ratio)),
        "translate_x": lambda images, pixels: _affine(images, fill=fill, translate=(int(pixels), 0)),
        "translate_y": lambda images, pixels: _affine(images, fill=fill, translate=(0, int(pixels))),
        "rotate": lambda images, degrees: F.rotate(images, degrees, fill=[float(fill)]),
    }


def _colours() -> dict[str, Operation]:
    """A factor of 1 changes nothing."""
    return {
        "brightness": F.adjust_brightness,
        "colour": lambda images, factor: F.adjust_saturation(images, factor) if images.shape[1] == 3 else images,
        "contrast": F.adjust_contrast,
        "sharpness": F.adjust_sharpness,
        "posterise": lambda images, bits: F.posterize(images, int(bits)),
        "solarise": lambda images, threshold: F.solarize(images, threshold),
        "autocontrast": lambda images, _: F.autocontrast(images),
        "equalise": lambda images, _: F.equalize(images),
        "identity": lambda images, _: images,
        "invert": lambda images, _: F.invert(images),
    }


def _histogram_contrast(images: Images, factor: int | float) -> Images:
    """Contrast of the released AutoAugment code: relative to the mean count of a 256-bin histogram, at most 255."""
    mean = min(images.shape[2] * images.shape[3] // 256, 255)
    return (images * factor + mean * (1 - factor)).clamp(0, 255).to(torch.uint8)


def _solarise_add(images: Images, addition: int | float) -> Images:
    added = (images.to(torch.int16) + int(addition)).clamp(0, 255).to(torch.uint8)
    return torch.where(images < 128, added, images)


def _posterise(images: Images, removed: int | float) -> Images:
    """Keeps the high bits; removes at most eight."""
    bits = 8 - min(max(int(removed), 0), 8)
    return F.posterize(images, bits) if bits else torch.zeros_like(images)


Levels = Callable[[int, int, int], tuple[int | float, bool]]
"""From a magnitude, height and width to the operation's argument, and whether its sign is random."""


def _torchvision() -> dict[str, tuple[Operation, Levels]]:
    """torchvision's `RandAugment`: 14 operations, magnitudes 0 to 30, black fill."""
    operations = _geometric(0, corner=0.0) | _colours()
    levels: dict[str, Levels] = {
        "identity": lambda m, h, w: (0.0, False),
        "shear_x": lambda m, h, w: (0.3 * m / 30, True),
        "shear_y": lambda m, h, w: (0.3 * m / 30, True),
        "translate_x": lambda m, h, w: (150 / 331 * w * m / 30, True),
        "translate_y": lambda m, h, w: (150 / 331 * h * m / 30, True),
        "rotate": lambda m, h, w: (30.0 * m / 30, True),
        **dict.fromkeys(("brightness", "colour", "contrast", "sharpness"), lambda m, h, w: (0.9 * m / 30, True)),
        "posterise": lambda m, h, w: (8 - round(m / 7.5), False),
        "solarise": lambda m, h, w: (255 * (1 - m / 30), False),
        "autocontrast": lambda m, h, w: (0.0, False),
        "equalise": lambda m, h, w: (0.0, False),
    }
    for name in ("brightness", "colour", "contrast", "sharpness"):
        operations[name] = partial(_about_one, operations[name])
    return {name: (operations[name], level) for name, level in levels.items()}


def _about_one(operation: Operation, images: Images, change: int | float) -> Images:
    return operation(images, 1 + change)


def _big_vision() -> dict[str, tuple[Operation, Levels]]:
    """big_vision's `randaug`, from the released AutoAugment code: 16 operations, grey fill.

    Magnitudes are 0 to 10 and beyond. Its contrast is relative to another grey than the mean.
    """
    # TensorFlow's coordinates start at the centre of the first pixel
    operations = _geometric(GREY, corner=0.5) | _colours()
    operations |= {"contrast": _histogram_contrast, "posterise": _posterise, "solarise_add": _solarise_add}
    operations["solarise"] = lambda images, threshold: torch.where(images.short() < threshold, images, 255 - images)
    operations["cutout"] = lambda images, _: images  # needs a position for each image: see `_cut_out`
    levels: dict[str, Levels] = {
        **dict.fromkeys(("autocontrast", "equalise", "invert"), lambda m, h, w: (0.0, False)),
        "rotate": lambda m, h, w: (3.0 * m, True),
        "posterise": lambda m, h, w: (8 - int(m / 10 * 4), False),
        "solarise": lambda m, h, w: (int(m / 10 * 256), False),
        **dict.fromkeys(("colour", "contrast", "brightness", "sharpness"), lambda m, h, w: (m / 10 * 1.8 + 0.1, False)),
        "shear_x": lambda m, h, w: (0.03 * m, True),
        "shear_y": lambda m, h, w: (0.03 * m, True),
        "translate_x": lambda m, h, w: (10.0 * m, True),
        "translate_y": lambda m, h, w: (10.0 * m, True),
        "cutout": lambda m, h, w: (int(m / 10 * 40), False),
        "solarise_add": lambda m, h, w: (int(m / 10 * 110), False),
    }
    return {name: (operations[name], level) for name, level in levels.items()}


VARIANTS: dict[str, dict[str, tuple[Operation, Levels]]] = {
    "torchvision": _torchvision(),
    "big_vision": _big_vision(),
}
"""By form, its operations and how a magnitude becomes their argument."""


def randaugment(
    images: Images, uniforms: Float64[np.ndarray, "b four_a_layer"], *, variant: str, magnitude: int
) -> Images:
    """Applies one random operation per layer to each image.

    Args:
        images: on any device.
        uniforms: four in [0, 1) for each layer: operation, sign, and a position (row, column).
        variant: one of `VARIANTS`.
        magnitude: in the variant's own units.
    """
    operations = list(VARIANTS[variant].items())
    height, width = images.shape[2:]
    out = images.clone()
    for layer in range(uniforms.shape[1] // 4):
        which, sign, down, across = uniforms[:, 4 * layer : 4 * layer + 4].T
        sampled = (which * len(operations)).astype(int)
        for number, (name, (operation, level)) in enumerate(operations):
            value, signed = level(magnitude, height, width)
            for rows, signum in _groups(sampled == number, sign < 0.5, signed):
                selected = torch.from_numpy(rows).to(images.device, non_blocking=True)
                if name == "cutout":
                    changed = _cut_out(out[selected], int(value), down[rows], across[rows])
                else:
                    changed = operation(out[selected], signum * value)
                out[selected] = changed
    return out


def _groups(sampled: np.ndarray, negative: np.ndarray, signed: bool) -> Iterator[tuple[np.ndarray, int]]:
    """Rows of the images that sampled an operation, grouped by sign if the sign matters."""
    for mask, signum in ((sampled & negative, -1), (sampled & ~negative, 1)) if signed else ((sampled, 1),):
        if mask.any():
            yield np.flatnonzero(mask), signum


def _cut_out(images: Images, half: int, down: np.ndarray, across: np.ndarray) -> Images:
    """Fills a square of side 2 * `half` around a random pixel with grey."""
    height, width = images.shape[2:]
    rows, columns = (torch.arange(count, device=images.device) for count in (height, width))
    top, left = (
        torch.from_numpy((position * count).astype(int)).to(images.device)[:, None]
        for position, count in ((down, height), (across, width))
    )
    inside_rows = (rows >= top - half) & (rows < top + half)
    inside_columns = (columns >= left - half) & (columns < left + half)
    inside = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
    return torch.where(inside, GREY, images).to(torch.uint8)
