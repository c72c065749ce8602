"""How many pixels an image may have."""

import os
import sys

from PIL import Image

from vitral.data.images.errors import NotRead, TooLarge
from vitral.errors import UserError

__all__ = ["check_size", "max_pixels"]

LIMIT = "VITRAL_MAX_PIXELS"
"""Environment variable with the largest number of pixels of an image."""

DEFAULT = 2**27
"""Pixels that are allowed unless it is set: more than the 108 million of phones. Pillow's own limit is 89 million."""

NARROW = 16
"""Pixels that a row and a column count as at least: Pillow keeps a pointer and padding for each row, however short, and
resizing keeps weights for each row and column.
"""


def max_pixels() -> int:
    """Pixels that an image may have: `DEFAULT`, or the environment variable VITRAL_MAX_PIXELS.

    Raises:
        UserError: the variable is not a positive integer.
    """
    if text := os.environ.get(LIMIT):
        if not text.isdigit() or not int(text):
            raise UserError(f"{LIMIT} must be a number of pixels, such as 200000000, not {text!r}")
        Image.MAX_IMAGE_PIXELS = int(text)
    return Image.MAX_IMAGE_PIXELS or sys.maxsize


def check_size(width: int, height: int, *, depth: int = 1) -> None:
    """Refuses an image without pixels, or with more than `max_pixels`.

    Args:
        width: in pixels.
        height: in pixels.
        depth: as how many pixels each counts, if it takes more memory than usual.

    Raises:
        NotRead: the image is refused; `TooLarge`, if for its pixels.
    """
    if not width * height * depth:
        raise NotRead("it has no pixels")
    pixels, limit = max(width, NARROW) * max(height, NARROW) * depth, max_pixels()
    if pixels > limit:
        allow = f"{LIMIT}={pixels} in the environment allows it"
        counted = (
            f", counted as {NARROW} a {'row' if width < NARROW else 'column'}," if min(width, height) < NARROW else ""
        )
        raise TooLarge(f"its {width}x{height} pixels{counted} are more than the {limit} allowed: {allow}")


Image.MAX_IMAGE_PIXELS = DEFAULT
