"""Decodes the pixels of an opened image with fewer copies than Pillow makes."""

from typing import Any

from PIL import ExifTags, Image

from vitral.data.images.plain import orientation
from vitral.data.images.strips import PIXELS, VIEWS, MappedPixels, keeps_size

__all__ = ["JPEGS", "is_turned_by_strips", "load_pixels"]

TURNED = 2**22
"""Pixels from which turning an image takes less memory, which is slower for small ones."""

JPEGS = ("JPEG", "MPO")
"""Pillow's names of JPEGs; the second has several images."""
TURNED_FORMATS = (*JPEGS, "PNG", "TIFF")
"""Formats that are turned by strips."""
FRAMES = ("AVIF", "WEBP")
"""Formats whose decoders keep their own copies of a frame that they have given."""


def load_pixels(image: Image.Image) -> None:
    """Decodes an image that is not loaded yet, of an animation its first frame.

    Large images of mode CMYK, and those that are turned, get memory that `strips` overwrites or gives back.
    """
    if image.format in FRAMES:
        image._decoder = _LastFrame(image._decoder)  # pyright: ignore[reportAttributeAccessIssue]
    turned_by_strips = is_turned_by_strips(image)
    if turned_by_strips or (image.mode == "CMYK" and image.width * image.height > PIXELS and not _is_loaded(image)):
        stored = getattr(image, "_tile_size", image.size)  # of a TIFF; its other size is the upright one
        MappedPixels.of(stored, image.mode).hold(image)
    if not turned_by_strips:
        image.load()
        return
    exif = image.getexif()
    turned = exif.pop(ExifTags.Base.Orientation)  # Pillow would turn a TIFF itself, with a copy
    image.load()
    image._size, exif[ExifTags.Base.Orientation] = image.im.size, turned


def is_turned_by_strips(image: Image.Image) -> bool:
    """Whether an opened image is turned upright without a second copy in memory."""
    is_large = image.width * image.height > TURNED
    if not is_large or image.format not in TURNED_FORMATS or image.mode not in VIEWS or _is_loaded(image):
        return False
    # Pillow would decode a PNG to look for EXIF after its pixels
    return (image.format != "PNG" or "exif" in image.info) and not keeps_size(orientation(image))


def _is_loaded(image: Image.Image) -> bool:
    """Whether an image has its pixels, as those that Vitral decodes itself have."""
    return not getattr(image, "tile", None)


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
