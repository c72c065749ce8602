"""Bytes of memory that reading an image takes at most, from its header: see `memory`."""

import mmap

from PIL import Image

from vitral.data.images import tiff
from vitral.data.images.loading import is_turned_by_strips
from vitral.data.images.plain import orientation
from vitral.data.images.strips import BYTES, keeps_size

__all__ = ["decoding_cost", "tiff_cost", "unopened_cost"]

SMALL = 2**20
"""Pixels up to which images are not looked at closely: they take little memory in any case."""

MODES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
"""Bytes a pixel in Pillow's memory; of other modes, 4."""

IN_PLACE = ("RGB", "RGBA", "LA", "CMYK", "I", "F")
"""Modes of 4 bytes that become RGB where they are, or grey first. The orientation of a PNG may be known only later."""

PLAIN = 5
"""Bytes a pixel of the result, with some rows that are changed."""

DECODERS = {"JPEG2000": 20, "AVIF": 14, "HEIF": 10, "JXL": 20, "WEBP": 9}
"""Bytes a pixel of what a decoder holds itself besides."""

DEEP_PNG = 5
"""Bytes a pixel of the second half of colours of 16 bits, which Pillow decodes in two."""


def decoding_cost(image: Image.Image, *, deep: bool = False, coefficients: int = 0) -> int:
    """Bytes for an opened image and the upright picture that is made of it.

    Args:
        image: not loaded yet.
        deep: whether it is a PNG whose colours of 16 bits are decoded in two halves.
        coefficients: bytes of those of a JPEG that libjpeg keeps until it has read them all.
    """
    pixels, held = image.width * image.height, coefficients
    tags: tiff.Tags = getattr(image, "tag_v2", {})
    if image.format == "TIFF" and tiff.is_compressed(tags):
        held += tiff.part_bytes(tags)
    if pixels <= SMALL:
        return pixels * (PLAIN + max(DECODERS.values())) + held
    stored = MODES.get(image.mode, 4)
    in_place = image.mode in IN_PLACE and (image.format != "PNG" and keeps_size(orientation(image)))
    if is_turned_by_strips(image):  # each upright row begins one page more than leave the memory
        in_place, held = True, held + min(mmap.PAGESIZE * image.width, BYTES * pixels)
    each = PLAIN + (0 if in_place else stored) + DECODERS.get(image.format or "", 0) + deep * DEEP_PNG
    return pixels * each + held


def unopened_cost(width: int, height: int) -> int:
    """Bytes for a JPEG XL, which is decoded as soon as it is opened."""
    return width * height * (PLAIN + DECODERS["JXL"])


def tiff_cost(tags: tiff.Tags) -> int:
    """Bytes for a TIFF that tifffile reads: the picture, and a tile or strip as it is stored, decoded, and changed."""
    width, height, _, _ = tiff.dimensions(tags)
    return width * height * PLAIN + (3 if tiff.is_compressed(tags) else 2) * tiff.part_bytes(tags)
