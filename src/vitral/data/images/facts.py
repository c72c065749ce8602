"""What an image file says of itself: for reports on data."""

from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from vitral.data.images import tiff
from vitral.data.images.colour import profile_name
from vitral.data.images.decode import decoding, has_frames, open_image, orientation
from vitral.data.images.formats import format_names
from vitral.data.images.values import extremes

__all__ = ["ImageFacts", "read_facts"]

NARROW = 14
"""Bits that the values of a camera or a scanner have at most, if they are fewer than 16."""


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What a file says."""

    format: str
    """Such as `JPEG`; empty: pixels in memory."""
    mode: str
    """Pillow's name of its pixels, such as `RGB`, `CMYK` or `I;16`."""
    size: tuple[int, int]
    """Width and height as stored, before it is turned upright."""
    orientation: int
    """EXIF's number; 1: it is stored upright."""
    profile: str
    """What its colour profile calls itself; empty: it has none."""
    several: bool
    """Whether it is an animation, or has several pages."""
    bits: int | None
    """Bits that its largest value needs, if values have 16 and the file does not say that it uses fewer."""

    @property
    def is_dark(self) -> bool:
        """Whether a 16-bit image is probably of 9 to 14 bits without saying so: it is then shown almost black."""
        return self.bits is not None and self.bits <= NARROW


def read_facts(stored: Path | bytes | Image.Image, *, name: str) -> ImageFacts:
    """Reads the header, and the pixels of 16-bit images.

    Args:
        stored: a path, the bytes of a file, or pixels.
        name: the image's name in errors.

    Raises:
        UnreadableImage: the file cannot be read as an image.
    """
    with decoding(name):
        if isinstance(stored, Image.Image):
            return _facts(stored)
        file = BytesIO(stored) if isinstance(stored, bytes) else stored.open("rb")
        with file as stream, open_image(stream, name=name) as image:
            return _facts(image)


def _facts(image: Image.Image) -> ImageFacts:
    profile = image.info.get("icc_profile")
    return ImageFacts(
        format=format_names((image.format,)) if image.format else "",
        mode=image.mode,
        size=image.size,
        several=image.format != "MPO" and has_frames(image),
        bits=_bits(image),
        # a TIFF is turned while its pixels are read
        orientation=orientation(image) or 1,
        profile=profile_name(profile) if profile is not None else "",
    )


def _bits(image: Image.Image) -> int | None:
    tiles = getattr(image, "tile", None)
    rawmode = str(tiles[0][3]) if tiles else ""
    narrow = image.info.get("bits", 16) < 16
    if narrow or not (image.mode.startswith("I;16") or (image.mode in ("RGB", "RGBA") and ";16" in rawmode)):
        return None
    values = np.asarray(image)
    if image.format == "TIFF" and tiff.white_level(getattr(image, "tag_v2", {}), partial(extremes, values)) is not None:
        return None
    # of colours, Pillow gives the upper byte of each value
    largest = int(values.max()) if values.ndim == 2 else int(values[:, :, :3].max()) * 256 + 255
    return largest.bit_length()
