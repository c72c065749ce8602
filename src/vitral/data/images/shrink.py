"""Images resized to a short side, as packed copies and caches hold them."""

from io import BytesIO
from pathlib import Path

from PIL import Image

from vitral.data.images.decode import decoding, open_image

__all__ = ["is_grey", "shrink"]

GREY = ("1", "L", "I", "I;16", "I;16B", "F")
"""Pillow's modes without colour."""


def shrink(image: Image.Image, short_side: int) -> Image.Image:
    """The image at a short side, in pixels."""
    scale = short_side / min(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC)


def is_grey(stored: Path | bytes | Image.Image, name: str) -> bool:
    """Whether an image has no colour.

    Raises:
        UnreadableImage: it cannot be read.
    """
    if isinstance(stored, Image.Image):
        return stored.mode in GREY
    file = BytesIO(stored) if isinstance(stored, bytes) else stored.open("rb")
    with decoding(name), file as stream, open_image(stream, name=name) as image:
        return image.mode in GREY and not image.has_transparency_data
