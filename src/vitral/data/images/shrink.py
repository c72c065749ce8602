"""Images resized to a short side, as packed copies and caches hold them."""

from io import BytesIO
from pathlib import Path

from PIL import Image

__all__ = ["is_grey", "shrink"]

GREY = ("1", "L", "I", "I;16", "F")
"""Pillow's modes without colour."""


def shrink(image: Image.Image, short_side: int) -> Image.Image:
    """The image at a short side, in pixels."""
    scale = short_side / min(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC)


def is_grey(stored: Path | bytes | Image.Image) -> bool:
    """Whether an image that can be read has no colour."""
    if isinstance(stored, Image.Image):
        return stored.mode in GREY
    with Image.open(BytesIO(stored) if isinstance(stored, bytes) else stored) as image:
        return image.mode in GREY and not image.has_transparency_data
