"""Decodes the pixels of an opened image with fewer copies than Pillow makes."""

from typing import Any

from PIL import Image

from vitral.data.images.plain import orientation
from vitral.data.images.strips import MAPPED, PIXELS, MappedPixels, keeps_size

__all__ = ["JPEGS", "is_turned_by_strips", "load_pixels"]

TURNED = 2**22
"""Pixels from which turning an image takes less memory, which is slower for small ones."""

MODES = {"RGB": ("RGB",), "CMYK": ("CMYK", "RGBX")}
"""Modes of mapped pixels: as the file has them, and as `strips.convert` overwrites them."""

JPEGS = ("JPEG", "MPO")
"""Pillow's names of JPEGs; the second has several images."""
FRAMES = ("AVIF", "WEBP")
"""Formats whose decoders keep their own copies of a frame that they have given."""


def load_pixels(image: Image.Image) -> None:
    """Decodes an image that is not loaded yet, of an animation its first frame.

    Large images of mode CMYK, and JPEGs that are turned, get memory that `strips` overwrites or gives back.
    """
    if image.format in FRAMES:
        image._decoder = _LastFrame(image._decoder)  # pyright: ignore[reportAttributeAccessIssue]
    if is_turned_by_strips(image) or (image.mode == "CMYK" and image.width * image.height > PIXELS):
        mapped = MappedPixels.of(image.size, *MODES[image.mode])
        image.im, image.info[MAPPED] = mapped.views[0], mapped
    image.load()


def is_turned_by_strips(image: Image.Image) -> bool:
    """Whether an opened image is turned upright without a second copy in memory."""
    large = image.width * image.height > TURNED
    return large and image.format in JPEGS and image.mode in MODES and not keeps_size(orientation(image))


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
