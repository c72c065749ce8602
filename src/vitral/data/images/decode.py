"""From a file to an upright 8-bit PIL image, grey or colour, whatever the file's own form."""

import warnings
from io import BufferedReader, BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from vitral.errors import UserError

__all__ = ["IMAGE_SUFFIXES", "MODES", "UnreadableImage", "read_image"]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""What is read; Pillow knows more, some of it by running other programs."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"})
"""Lower-case endings of the files that a folder is searched for."""

MODES = {1: "L", 3: "RGB"}
"""Pillow's mode by number of channels."""

_UPRIGHT = {
    # EXIF orientation: what was done to the picture, hence what undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableImage(UserError):
    """A file that cannot be read as an image; the message is one sentence with its name and what is wrong."""


def read_image(
    file: Path | bytes | BytesIO | BufferedReader | Image.Image, *, channels: int, name: str | None = None
) -> Image.Image:
    """Reads one image as a person sees it: upright, in 8 bits, on white where it is transparent.

    The first frame is read where there are several. Deep greys keep their order instead of being cut at 255:
    16-bit values are divided by 257, floats between 0 and 1 multiplied by 255, floats up to 255 rounded, and
    any other range is stretched from its darkest to its brightest value. Colour profiles are not applied.

    Args:
        file: a path, the bytes of a file, an open binary file (left open), or a PIL image (left as it is).
        channels: 3 gives mode "RGB", 1 gives mode "L".
        name: what errors call the image; its path, or "the image", when None.

    Returns:
        A new image that holds no file open and carries no metadata.

    Raises:
        UnreadableImage: no such file, empty, of another format, damaged, cut short, of too many pixels, or no file
            but a pipe or a device.
        UserError: `channels` is neither 1 nor 3.
    """
    if channels not in MODES:
        raise UserError(f"an image is read with 1 channel (grey) or 3 (colour), not {channels}")
    if name is None:
        name = str(file) if isinstance(file, Path) else "the image"
    try:
        return _read(file, channels)
    # a damaged file can make Pillow's parsers raise almost anything
    except Exception as error:
        raise UnreadableImage(f"{name} cannot be read as an image: {_reason(error)}") from error


def _read(file: Path | bytes | BytesIO | BufferedReader | Image.Image, channels: int) -> Image.Image:
    if isinstance(file, Image.Image):
        return _plain(file, channels)
    if isinstance(file, Path):
        if file.exists() and not (file.is_file() or file.is_dir()):
            raise _Unfit("it is no ordinary file")  # a pipe would keep us waiting for ever
        with file.open("rb") as stream:
            return _read(stream, channels)
    stream = BytesIO(file) if isinstance(file, bytes) else file
    if not stream.read(1):
        raise _Unfit("it is empty")
    stream.seek(-1, 1)
    with warnings.catch_warnings():
        # `_plain` refuses such an image in our own words
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image = Image.open(stream, formats=FORMATS)
    with image:
        return _plain(image, channels)


def _plain(image: Image.Image, channels: int) -> Image.Image:
    pixels, limit = image.width * image.height, Image.MAX_IMAGE_PIXELS
    if not pixels:
        raise _Unfit("it has no pixels")
    if limit is not None and pixels > limit:
        raise _Unfit(f"its {image.width}x{image.height} pixels are more than the {limit} allowed")
    image.load()
    orientation = _orientation(image)
    if image.mode == "F" or image.mode.startswith("I"):
        image = _shallow(image)
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours)
    if image.mode not in ("1", "L", "RGB"):
        # some modes convert to grey only through colour
        image = image.convert("RGB")
    image = image.convert(MODES[channels])
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    # without the orientation, or reading the result again would turn it again
    image.info = {}
    return image


def _orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    # the pixels have been read: damaged metadata is no reason to refuse them
    except Exception:
        return None


def _shallow(image: Image.Image) -> Image.Image:
    """Deep grey to 8 bits; a value that a PNG declares transparent becomes white."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise _Unfit("some of its values are not finite")
    low, high = values.min(), values.max()
    if image.mode != "F" and low >= 0 and high <= 65535:
        low, high = 0, 65535
    elif image.mode == "F" and low >= 0 and high <= 255:
        low, high = 0, 1 if high <= 1 else 255
    span = high - low or 1
    grey = np.rint((values - low) * 255 / span)
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey.astype(np.uint8))


class _Unfit(Exception):
    """A reason of ours to refuse an image, already worded."""


def _reason(error: Exception) -> str:
    match error:
        case _Unfit():
            return str(error)
        case FileNotFoundError():
            return "there is no such file"
        case UnidentifiedImageError():
            return f"it is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file, or damaged at its start"
        case Image.DecompressionBombError():
            return f"it has more pixels than the {Image.MAX_IMAGE_PIXELS} allowed"
        case OSError(strerror=str(text)):
            return text.lower()
        case _:
            return f"it is damaged or cut short ({str(error) or type(error).__name__})"
