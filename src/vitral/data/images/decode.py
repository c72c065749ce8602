"""Reads image files of any common format as upright 8-bit PIL images, grey or colour."""

import logging
import warnings
from contextlib import AbstractContextManager
from io import BufferedReader, BytesIO
from pathlib import Path

from PIL import Image, JpegImagePlugin, UnidentifiedImageError

from vitral.data.images import boxes, errors, png, tiff
from vitral.data.images.complete import check_complete
from vitral.data.images.costs import decoding_cost, tiff_cost, unopened_cost
from vitral.data.images.errors import NotRead, UnreadableImage, is_machine_error
from vitral.data.images.formats import (
    HEADER_BYTES,
    IMAGE_SUFFIXES,
    MAGIC_BYTES,
    foreign_format,
    format_names,
    readable_formats,
)
from vitral.data.images.jpeg_header import JpegHeader
from vitral.data.images.limits import check_size, max_pixels
from vitral.data.images.loading import JPEGS, load_pixels
from vitral.data.images.memory import held_by, hold, reserve
from vitral.data.images.plain import MODES, orientation, to_plain
from vitral.data.images.tiff_bands import read_picture
from vitral.data.notes import is_noted, note_first
from vitral.errors import UserError

__all__ = [
    "IMAGE_SUFFIXES",
    "MODES",
    "UnreadableImage",
    "decoding",
    "has_frames",
    "is_machine_error",
    "max_pixels",
    "open_image",
    "orientation",
    "read_image",
    "read_range",
]

HDR = (16, 18)
"""Transfer characteristics of HEIC for HDR screens, as ITU-T H.273 numbers them: PQ and HLG."""
FOR_HDR = "its brightness is coded for HDR screens and is shown as it is stored"
FRAMES = "it has several frames or pages, of which the first is read"

# Pillow's words about damaged files; for good, as threads that leave `catch_warnings` restore each other's filters
logging.getLogger("PIL").addHandler(logging.NullHandler())
warnings.filterwarnings("ignore", module=r"PIL\.")

LARGE = 2**20
"""Pixels from which a JPEG is looked at more closely."""

Stream = BytesIO | BufferedReader


def decoding(name: str, *, kind: str = "an image", formats: tuple[str, ...] | None = None) -> AbstractContextManager:
    """Turns every error about the file's bytes into an `UnreadableImage`; errors of the machine pass through.

    Args:
        name: the image's name in errors.
        kind: what it is read as.
        formats: Pillow's names of the formats that are allowed; None: all that can be read here.
    """
    return errors.decoding(name, kind=kind, formats=format_names(formats, conjunction="or"))


def read_image(
    file: Path | bytes | BytesIO | BufferedReader | Image.Image, *, channels: int, name: str | None = None
) -> Image.Image:
    """Reads one image: upright, 8 bits per channel, in sRGB, transparency on white.

    Orientation comes from EXIF or XMP, or from the container of AVIF, HEIC and JPEG XL. Colour profiles are applied
    where they change a colour. Of an animation or a file of several pages, the first is read. Values of more than 8
    bits are scaled by what the file says they hold (see `values.to_8_bits`). A JPEG with more than `max_pixels` is
    decoded at a half, a quarter or an eighth of its size. What a file says that is not shown is noted once.

    Args:
        file: a path, the bytes of a file, an open binary file (stays open), or a PIL image (not modified).
        channels: 3 gives mode "RGB", 1 gives mode "L".
        name: the image's name in errors; None: its path, or "the image".

    Returns:
        A new image without metadata; no file stays open.

    Raises:
        UnreadableImage: the file does not exist, is empty, damaged, truncated or of a kind that is not read, has too
            many pixels, or is a pipe or a device.
        UserError: `channels` is neither 1 nor 3.
        OSError: the machine failed (see `is_machine_error`): too many open files, a disk error.
        MemoryError: there is not enough memory.
    """
    if channels not in MODES:
        raise UserError(f"an image is read with 1 channel (grey) or 3 (colour), not {channels}")
    if name is None:
        name = str(file) if isinstance(file, Path) else "the image"
    with decoding(name):
        return _read(file, channels, name)


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
            raise NotRead("the file that holds it has become shorter")
        return content


def open_image(stream: Stream, *, formats: tuple[str, ...] | None = None, name: str = "the image") -> Image.Image:
    """Opens an image whose pixels may not be decoded yet; call it inside `decoding`, which translates its errors.

    Args:
        stream: the file, from where it stands.
        formats: Pillow's names of the formats that are allowed; None: all that can be read here.
        name: the image's name in notes.
    """
    start, limit = stream.tell(), max_pixels()
    head = stream.read(MAGIC_BYTES)
    decoded = boxes.check_codestream(stream, start, head)
    memory = None if decoded is None else reserve(unopened_cost(*decoded))
    stream.seek(start)
    try:
        image = Image.open(stream, formats=formats or readable_formats(head))
    except Image.DecompressionBombError:
        if not head.startswith(b"\xff\xd8"):
            raise
        stream.seek(start)
        image = JpegImagePlugin.JpegImageFile(stream)
    except UnidentifiedImageError:
        if formats is None and (tags := tiff.read_tags(stream, start)) is not None:
            return _read_bands(stream, start, tags, name)
        stream.seek(start)
        if (other := foreign_format(stream.read(HEADER_BYTES))) is not None:
            raise NotRead(f"it is {other}") from None
        raise
    if image.format in JPEGS:
        _reduce(image, limit)
    check_size(*image.size)
    if image.format == "TIFF":
        held: tiff.Tags = image.tag_v2  # pyright: ignore[reportAttributeAccessIssue]
        tiff.check_directory(stream, start, held)
        if tiff.is_decoded_wrongly(held):
            return _read_bands(stream, start, held, name)
        tiff.check(held)
    if memory is None:
        halves = image.format == "PNG" and png.is_deep(image, stream, start) and png.is_decoded_in_halves(image)
        memory = reserve(decoding_cost(image, deep=halves, coefficients=_coefficients(image, stream, start)))
    return hold(_corrected(image, stream, start, name), memory)


def _coefficients(image: Image.Image, stream: Stream, start: int) -> int:
    """Bytes of a JPEG's coefficients that libjpeg keeps, unless the image is small."""
    if image.format not in JPEGS or image.width * image.height < LARGE:
        return 0
    stream.seek(start)
    header = JpegHeader.read(stream.read())
    return 0 if header is None else header.coefficients


def _corrected(image: Image.Image, stream: Stream, start: int, name: str) -> Image.Image:
    """The image with what Pillow misreads or leaves out."""
    match image.format:
        case "PNG":
            return png.correct_values(image, stream, start, name=name)
        case "JPEG2000":
            image.info |= boxes.metadata(stream, start)
    return image


def _reduce(image: Image.Image, limit: int) -> None:
    """Lets a JPEG with too many pixels be decoded at a half, a quarter or an eighth of its size."""
    width, height = image.size
    for scale in (2, 4, 8):
        if image.width * image.height > limit:
            image.draft(None, (-(-width // scale), -(-height // scale)))  # pyright: ignore[reportArgumentType]


def _read_bands(stream: Stream, start: int, tags: tiff.Tags, name: str) -> Image.Image:
    """A TIFF of a kind that Pillow does not read."""
    tiff.check(tags)
    memory = reserve(tiff_cost(tags))
    stream.seek(start)
    file = BytesIO(stream.read()) if start else stream  # whose offsets count from its beginning
    return hold(read_picture(file, tags, name=name), memory)


def _read(file: Path | Stream | bytes | Image.Image, channels: int, name: str) -> Image.Image:
    if isinstance(file, Image.Image):
        check_size(*file.size)
        if file.format == "TIFF" and tiff.is_decoded_wrongly(getattr(file, "tag_v2", {})):
            raise NotRead("Pillow gives other pixels than this kind of TIFF holds: give the file's path instead")
        memory = reserve(decoding_cost(file))
        return hold(to_plain(file, channels=channels, name=name, keep=True), memory)
    if isinstance(file, Path):
        if file.exists() and not (file.is_file() or file.is_dir()):
            raise NotRead("it is not a regular file")  # reading a pipe could block for ever
        with file.open("rb") as stream:
            return _read(stream, channels, name)
    stream = BytesIO(file) if isinstance(file, bytes) else file
    if not stream.read(1):
        raise NotRead("it is empty")
    stream.seek(-1, 1)
    start = stream.tell()
    with open_image(stream, name=name) as image:
        load_pixels(image)
        check_complete(image, stream, start, name=name)
        plain, memory = to_plain(image, channels=channels, name=name, keep=False), held_by(image)
        if image.info.get("nclx_profile", {}).get("transfer_characteristics") in HDR:
            note_first(FOR_HDR, name)
        # JPEGs of several images hold previews
        if image.format != "MPO" and not is_noted(FRAMES) and has_frames(image):
            note_first(FRAMES, name)
    return plain if memory is None else hold(plain, memory)


def has_frames(image: Image.Image) -> bool:
    """Whether a file has several frames or pages."""
    try:
        return bool(getattr(image, "is_animated", False))
    # the first frame is read already
    except Exception as error:
        if is_machine_error(error):
            raise
        return False
