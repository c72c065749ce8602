"""Decodes the pixels of an opened image with fewer copies than Pillow makes."""

import mmap
from typing import Any

from PIL import Image

from vitral.data.images.strips import PIXELS, SHARED

__all__ = ["load_pixels"]

FRAMES = ("AVIF", "WEBP")
"""Formats whose decoders keep their own copies of a frame that they have given."""


def load_pixels(image: Image.Image) -> None:
    """Decodes an image that is not loaded yet, of an animation its first frame.

    Large images of mode CMYK get memory that `strips.convert` overwrites with RGB.
    """
    if image.format in FRAMES:
        image._decoder = _LastFrame(image._decoder)  # pyright: ignore[reportAttributeAccessIssue]
    if image.mode == "CMYK" and image.width * image.height > PIXELS:
        size = 4 * image.width * image.height
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # not shared with a fork
        views = [Image.core.map_buffer(memory, image.size, "raw", 0, (mode, 0, 1)) for mode in ("CMYK", "RGBX")]
        image.im, image.info[SHARED] = views[0], views
    image.load()


class _LastFrame:
    """In place of Pillow's decoder: one that is freed when it has given a frame."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder

    def get_frame(self, number: int) -> Any:
        """The frame of an AVIF."""
        return self._take().get_frame(number)

    def get_next(self) -> Any:
        """The next frame of a WebP; None: it is damaged."""
        return self._take().get_next()

    def reset(self) -> None:
        """Pillow calls it before it reports a damaged frame."""

    def _take(self) -> Any:
        decoder, self._decoder = self._decoder, None
        return decoder
