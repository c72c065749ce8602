"""Images that keep their aspect ratio, as rows of patches: all have the same shape, though their grids differ.

A row is one patch: the number of its row and of its column in the image, both from 1, then its pixels. Rows of zeros
fill up the rest. The rule for an image's size is that of NaFlex in big_vision's SigLIP 2 (arXiv 2502.14786) and timm.
"""

from bisect import bisect_right
from typing import TypeAlias

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Float32, UInt8
from torch import Tensor

__all__ = ["MAX_PATCHES", "MAX_SIDE", "PLACE", "Images", "fit_grid", "flip_patches", "to_patch_rows"]

Images: TypeAlias = Float[Tensor, "b c h w"] | Float[Tensor, "b n v"]
"""What a model takes: normalised images, or rows of patches, with pixels channels first."""

PLACE = 2
"""Numbers before the pixels: row and column."""

MAX_SIDE = 255
"""Most rows, and most columns, of patches: their numbers are bytes."""

MAX_PATCHES = 2**14
"""Most patches of an image: 2048x2048 pixels in patches of 16."""


def fit_grid(image_hw: tuple[int, int], *, patch_hw: tuple[int, int], max_patches: int) -> tuple[int, int]:
    """Rows and columns of patches of an image at the largest scale at which they are at most `max_patches`.

    At scale s the image has ceil(s h / p) rows and ceil(s w / q) columns, so it is stretched by less than a patch.

    Args:
        image_hw: height and width of the image, in pixels.
        patch_hw: height p and width q of a patch.
        max_patches: at least 1.
    """
    (h, w), (p, q) = image_hw, patch_hw
    # at the largest scale, patches fill the height or the width exactly; sides in units of which both are whole
    rows, columns = _most(h * q, w * p, max_patches), _most(w * p, h * q, max_patches)
    filled_height, filled_width = (rows, -(-w * p * rows // (h * q))), (-(-h * q * columns // (w * p)), columns)
    return filled_height if rows * w * p > columns * h * q else filled_width


def _most(side: int, other: int, max_patches: int) -> int:
    """The most patches that fill a side, if those on the other side, at the same scale, leave enough; 0 if none do."""
    counts = range(1, min(max_patches, MAX_SIDE) + 1)
    longest = bisect_right(counts, MAX_SIDE, key=lambda count: -(-other * count // side))
    return bisect_right(counts[:longest], max_patches, key=lambda count: -(-other * count // side) * count)


def to_patch_rows(
    pixels: UInt8[np.ndarray, "h w c"] | Float32[np.ndarray, "h w c"], *, patch_hw: tuple[int, int], max_patches: int
) -> UInt8[np.ndarray, "n v c"] | Float32[np.ndarray, "n v c"]:
    """The rows of an image of whole patches; row and column are the same in each channel."""
    p, q = patch_hw
    patches = rearrange(pixels, "(gh p) (gw q) c -> gh gw (p q) c", p=p, q=q)
    gh, gw, _, channels = patches.shape
    rows = np.zeros((max_patches, PLACE + p * q, channels), pixels.dtype)
    filled = rows[: gh * gw].reshape(gh, gw, PLACE + p * q, channels)  # a view
    filled[:, :, 0] = np.arange(1, gh + 1)[:, None, None]
    filled[:, :, 1] = np.arange(1, gw + 1)[None, :, None]
    filled[:, :, PLACE:] = patches
    return rows


def flip_patches(
    images: UInt8[Tensor, "b n v c"] | Float32[Tensor, "b n v c"],
    flips: Bool[Tensor, " b"],
    *,
    patch_hw: tuple[int, int],
    axis: int = 2,
) -> UInt8[Tensor, "b n v c"] | Float32[Tensor, "b n v c"]:
    """Flips the images selected by the mask `flips` (on the host) horizontally, or vertically with axis 1."""
    selected = flips.nonzero()[:, 0].to(images.device, non_blocking=True)
    rows = images[selected]
    places, pixels = rows[:, :, :PLACE].clone(), rows[:, :, PLACE:]
    number = places[:, :, axis - 1]
    places[:, :, axis - 1] = torch.where(number > 0, number.amax(dim=1, keepdim=True) - number + 1, 0)
    pixels = pixels.unflatten(2, patch_hw).flip(axis + 1).flatten(2, 3)
    return images.index_copy(0, selected, torch.cat([places, pixels], dim=2))
