"""Reads image files of any common format as upright 8-bit PIL images, grey or colour."""

import errno
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, BytesIO
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, JpegImagePlugin, UnidentifiedImageError

from vitral.data.images import tiff
from vitral.data.images.formats import HEAD_BYTES, foreign_format
from vitral.errors import UserError

__all__ = [
    "IMAGE_SUFFIXES",
    "MODES",
    "UnreadableImage",
    "decoding",
    "is_machine_error",
    "max_pixels",
    "open_image",
    "read_image",
    "read_range",
]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
"""Formats that are read. Pillow knows more, but runs other programs for some of them."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif"})
"""Lower-case suffixes of image files; others in a folder are ignored."""

LIMIT = "VITRAL_MAX_PIXELS"
"""Environment variable with the largest number of pixels of an image."""

MODES = {1: "L", 3: "RGB"}
"""Pillow's mode by number of channels."""

# Pillow's words about damaged files; for good, as threads that leave `catch_warnings` restore each other's filters
logging.getLogger("PIL").addHandler(logging.NullHandler())
warnings.filterwarnings("ignore", module=r"PIL\.")

_MACHINE_ERRORS = frozenset(
    getattr(errno, name)
    for name in (
        # open files, memory, disk, network
        *("EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "EIO", "EAGAIN", "EBUSY", "EINTR", "ENODEV", "ENXIO"),
        *("ESTALE", "ETIMEDOUT", "ENETDOWN", "ENETUNREACH", "EHOSTDOWN", "EHOSTUNREACH"),
        *("ECONNABORTED", "ECONNREFUSED", "ECONNRESET", "ENOTCONN", "EREMOTEIO", "ESHUTDOWN"),
    )
    if hasattr(errno, name)
)

_UPRIGHT = {
    # EXIF orientation: the transpose that undoes it
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableImage(UserError):
    """A file cannot be read as an image. The message is one sentence with the file's name and the reason."""


def is_machine_error(error: BaseException) -> bool:
    """Whether an error comes from the machine (memory, open files, disk, network) and not from the file's bytes."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _MACHINE_ERRORS)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that led to it, as Pillow raises its own errors for those of reading the file."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@contextmanager
def decoding(name: str, *, kind: str = "an image", formats: tuple[str, ...] = FORMATS) -> Iterator[None]:
    """Turns every error about the file's bytes into an `UnreadableImage`; errors of the machine pass through.

    Args:
        name: the image's name in errors.
        kind: what it is read as.
        formats: Pillow's names of the formats that are allowed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged metadata is no reason to print a line of Pillow's source
            yield
        return
    # a damaged file can make Pillow's parsers raise almost anything
    except Exception as error:
        failure = error
    # raised out here, so that a cause does not become its own context
    cause = next(filter(is_machine_error, _causes(failure)), None)
    if cause is not None:
        if isinstance(cause, OSError) and cause.filename is None:  # an open file does not know its name
            cause.filename = name
        raise cause
    raise UnreadableImage(f"{name} cannot be read as {kind}: {_reason(failure, formats)}") from failure


def read_image(
    file: Path | bytes | BytesIO | BufferedReader | Image.Image, *, channels: int, name: str | None = None
) -> Image.Image:
    """Reads one image: upright (orientation in EXIF or XMP applied), 8 bits a channel, transparency on white.

    Of an animation, the first frame is read. Greys of more than 8 bits are rescaled instead of clipped at 255:
    16-bit values are divided by 257, floats in 0..1 multiplied by 255, floats up to 255 rounded, and any other
    range is stretched from its minimum to its maximum. Colour profiles are not applied. A JPEG with more than
    `max_pixels` is decoded at a half, a quarter or an eighth of its size.

    Args:
        file: a path, the bytes of a file, an open binary file (stays open), or a PIL image (not modified).
        channels: 3 gives mode "RGB", 1 gives mode "L".
        name: the image's name in errors; None: its path, or "the image".

    Returns:
        A new image without metadata; no file stays open.

    Raises:
        UnreadableImage: the file does not exist, is empty, damaged, truncated or of another format, has too many
            pixels, or is a pipe or a device.
        UserError: `channels` is neither 1 nor 3.
        OSError: the machine failed (see `is_machine_error`): too many open files, a disk error.
        MemoryError: there is not enough memory.
    """
    if channels not in MODES:
        raise UserError(f"an image is read with 1 channel (grey) or 3 (colour), not {channels}")
    if name is None:
        name = str(file) if isinstance(file, Path) else "the image"
    with decoding(name):
        return _read(file, channels)


def read_range(file: Path, start: int, size: int, *, name: str) -> bytes:
    """Reads the bytes of one image that is stored inside a larger file.

    Args:
        file: the archive.
        start: offset of the first byte.
        size: number of bytes.
        name: the image's name in errors.

    Raises:
        UnreadableImage: the archive is missing, not accessible, or shorter than before.
        OSError: the machine failed (see `is_machine_error`).
    """
    with decoding(name), file.open("rb") as stream:
        stream.seek(start)
        content = stream.read(size)
        if len(content) < size:
            raise _Rejected("the file that holds it has become shorter")
        return content


def open_image(stream: BytesIO | BufferedReader, *, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """Opens an image whose pixels are not decoded yet; call it inside `decoding`, which translates its errors."""
    start, limit = stream.tell(), max_pixels()
    try:
        image = Image.open(stream, formats=formats)
    except Image.DecompressionBombError:
        stream.seek(start)
        if stream.read(2) != b"\xff\xd8":
            raise
        stream.seek(start)
        image = JpegImagePlugin.JpegImageFile(stream)
    except UnidentifiedImageError:
        if (unsupported := tiff.unsupported_kind(stream, start)) is not None:
            raise _Rejected(f"it is a TIFF of {unsupported}, which Vitral does not read") from None
        stream.seek(start)
        if (other := foreign_format(stream.read(HEAD_BYTES))) is not None:
            raise _Rejected(f"it is {other}, which Vitral does not read: save it as JPEG or PNG") from None
        raise
    if image.format == "TIFF" and tiff.is_decoded_wrongly(image.tag_v2):  # pyright: ignore[reportAttributeAccessIssue]
        found = tiff.kind(image.tag_v2)  # pyright: ignore[reportAttributeAccessIssue]
        raise _Rejected(f"it is a TIFF of {found}, which Vitral does not read: save its bands interleaved")
    if image.format == "JPEG":
        _reduce(image, limit)
    _check_size(image)
    return image


def max_pixels() -> int:
    """Pixels that an image may have: Pillow's limit, which the environment variable VITRAL_MAX_PIXELS replaces.

    Raises:
        UserError: the variable is not a positive integer.
    """
    if text := os.environ.get(LIMIT):
        if not text.isdigit() or not int(text):
            raise UserError(f"{LIMIT} must be a number of pixels, such as 200000000, not {text!r}")
        Image.MAX_IMAGE_PIXELS = int(text)
    return Image.MAX_IMAGE_PIXELS or sys.maxsize


def _reduce(image: Image.Image, limit: int) -> None:
    """Lets a JPEG with too many pixels be decoded at a half, a quarter or an eighth of its size."""
    width, height = image.size
    for scale in (2, 4, 8):
        if image.width * image.height > limit:
            image.draft(None, (-(-width // scale), -(-height // scale)))  # pyright: ignore[reportArgumentType]


def _check_size(image: Image.Image) -> None:
    pixels, limit = image.width * image.height, max_pixels()
    if not pixels:
        raise _Rejected("it has no pixels")
    if pixels > limit:
        allow = f"{LIMIT}={pixels} in the environment allows it"
        raise _Rejected(f"its {image.width}x{image.height} pixels are more than the {limit} allowed: {allow}")


def _read(file: Path | bytes | BytesIO | BufferedReader | Image.Image, channels: int) -> Image.Image:
    if isinstance(file, Image.Image):
        _check_size(file)
        return _plain(file, channels)
    if isinstance(file, Path):
        if file.exists() and not (file.is_file() or file.is_dir()):
            raise _Rejected("it is not a regular file")  # reading a pipe could block for ever
        with file.open("rb") as stream:
            return _read(stream, channels)
    stream = BytesIO(file) if isinstance(file, bytes) else file
    if not stream.read(1):
        raise _Rejected("it is empty")
    stream.seek(-1, 1)
    with open_image(stream) as image:
        return _plain(image, channels)


def _plain(image: Image.Image, channels: int) -> Image.Image:
    image.load()
    orientation = _orientation(image)
    if image.format == "TIFF":
        image = tiff.correct_values(image)
    if image.mode == "F" or image.mode.startswith("I"):
        image = _to_8_bits(image)
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours)
    if image.mode not in ("1", "L", "RGB"):
        # some modes convert to grey only by way of RGB
        image = image.convert("RGB")
    image = image.convert(MODES[channels])
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    # remove the orientation, or reading the result again would rotate it again
    image.info = {}
    return image


def _orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    # the pixels are decoded already: damaged metadata is no reason to reject them
    except Exception as error:
        if is_machine_error(error):
            raise
        return None


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Rescales 16-bit, 32-bit and float greys; a value that a PNG declares transparent becomes white."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise _Rejected("some of its values are not finite")
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


class _Rejected(Exception):
    """The reader itself rejects an image; the message is the reason."""


def _reason(error: Exception, formats: tuple[str, ...]) -> str:
    match error:
        case _Rejected():
            return str(error)
        case FileNotFoundError():
            return "there is no such file"
        case UnidentifiedImageError():
            listed = " or ".join(filter(None, [", ".join(formats[:-1]), formats[-1]]))
            return f"it is not a {listed} file, or its header is damaged"
        case Image.DecompressionBombError():
            return f"it has more pixels than the {max_pixels()} allowed: {LIMIT} in the environment allows more"
        case OSError(strerror=str(text)):
            return text.lower()
        case _:
            return f"it is damaged or truncated ({str(error) or type(error).__name__})"
