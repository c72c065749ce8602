"""TIFF files: what their tags say they hold, and the values that Pillow decodes to others."""

import ctypes
import struct
from collections.abc import Callable, Mapping
from functools import partial
from io import BufferedReader, BytesIO
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from vitral.data.images.errors import NotRead
from vitral.data.images.limits import check_size
from vitral.data.images.values import extremes, to_8_bits
from vitral.data.notes import note_first

__all__ = [
    "ASSOCIATED",
    "DROPPED",
    "UNASSOCIATED",
    "Tags",
    "check",
    "check_directory",
    "correct_values",
    "dimensions",
    "is_compressed",
    "is_decoded_wrongly",
    "kind",
    "part_bytes",
    "read_tags",
    "white_level",
]

BITS, COMPRESSION, PHOTOMETRIC, MAKE, SAMPLES, ROWS, MAX_VALUE, PLANAR = 258, 259, 262, 271, 277, 278, 281, 284
REDUCED, COLOUR_MAP, SUB_IMAGES, EXTRA_SAMPLES, SAMPLE_FORMAT = 254, 320, 330, 338, 339
DEPTH, DNG_VERSION = 32997, 50706
WIDTHS, HEIGHTS = (256, 322), (257, 323)
"""Numbers of tags; the last are of the image and its tiles."""
MAX_TAGS = 2**16
LAYOUT = frozenset((BITS, SAMPLES, ROWS, PLANAR, *WIDTHS, *HEIGHTS))
"""Tags that decide what memory decoding takes."""
FORMATS = {1: "unsigned integers", 2: "signed integers", 3: "floats", 5: "complex integers", 6: "complex numbers"}
"""Values of the tag SampleFormat."""
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, YCBCR, CFA, LINEAR_RAW = 0, 1, 2, 6, 32803, 34892
"""Values of PHOTOMETRIC."""
SIGNED, SEPARATE, UNCOMPRESSED = 2, 2, 1
"""Values of SAMPLE_FORMAT, PLANAR and COMPRESSION."""
ASSOCIATED, UNASSOCIATED = 1, 2
"""Values of EXTRA_SAMPLES for alpha, of colours that are multiplied with it and of colours that are not."""

NARROW = frozenset(2**bits - 1 for bits in range(9, 16))
"""Largest values of integers that do not use all of 16 bits."""

DROPPED = "it has more bands than red, green, blue and alpha, which are not shown"

Tags = Mapping[int, Any]


def _first(tags: Tags, number: int, default: int) -> int:
    """The first value of a tag."""
    value = tags.get(number, default)
    return int(value[0] if isinstance(value, tuple) else value)


def kind(tags: Tags) -> str:
    """What a file holds, such as `3 bands of 16-bit unsigned integers in separate planes`."""
    bands, bits = _first(tags, SAMPLES, 1), _first(tags, BITS, 1)
    values = FORMATS.get(_first(tags, SAMPLE_FORMAT, 1), "values")
    planes = " in separate planes" if bands > 1 and _first(tags, PLANAR, 1) == SEPARATE else ""
    return f"{bands} band{'s' if bands > 1 else ''} of {bits}-bit {values}{planes}"


def read_tags(stream: BytesIO | BufferedReader, start: int) -> Tags | None:
    """The tags of the first image of a TIFF that Pillow does not identify; None if it is no TIFF, or they are damaged.

    Args:
        stream: the file.
        start: where the image begins in it.
    """
    stream.seek(start)
    header = stream.read(16)
    if header[:4] not in TiffImagePlugin.PREFIXES:
        return None
    # Pillow takes no big-endian BigTIFF for one
    head = b"II\x2b\0" + header[4:] if b"\x2b" in header[2:4] else header[:8]
    tags = TiffImagePlugin.ImageFileDirectory_v2(head, prefix=header[:2])
    stream.seek(-1, 2)
    stream.read(1)  # Pillow hides errors of the machine, and this raises them
    stream.seek(start)
    part = BytesIO(stream.read())
    part.seek(tags.next)
    tags.load(part)
    return tags if BITS in tags and tags.get(SAMPLES, 1) else None


def check(tags: Tags) -> None:
    """Refuses cameras' files, whose first image is a thumbnail or a mosaic of the sensor's colours, and huge tiles.

    Raises:
        NotRead: the image is refused.
    """
    thumbnail = _first(tags, REDUCED, 0) & 1 and SUB_IMAGES in tags and MAKE in tags
    if thumbnail or DNG_VERSION in tags or _first(tags, PHOTOMETRIC, 1) in (CFA, LINEAR_RAW):
        raise NotRead("it is a RAW photograph, which Vitral does not read: save it as JPEG or PNG")
    width, height, _, _ = dimensions(tags)
    # a pixel of many bytes counts as several
    check_size(width, height, depth=max(1, _first(tags, SAMPLES, 1) * _first(tags, BITS, 1) // 64))


def dimensions(tags: Tags) -> tuple[int, int, int, int]:
    """Width and height of the image or of a tile, whichever is larger; bands, and bytes of a value."""
    width, height = (max(_first(tags, number, 1) for number in numbers) for numbers in (WIDTHS, HEIGHTS))
    return width, height, _first(tags, SAMPLES, 1), -(-_first(tags, BITS, 1) // 8)


def is_compressed(tags: Tags) -> bool:
    """Whether tiles or strips are decoded as a whole."""
    return _first(tags, COMPRESSION, 1) != UNCOMPRESSED


def part_bytes(tags: Tags) -> int:
    """Bytes of the largest tile or strip, decompressed."""
    width, height = (_first(tags, numbers[0], 1) for numbers in (WIDTHS, HEIGHTS))
    rows = min(_first(tags, ROWS, height), height)
    if WIDTHS[1] in tags:
        width, rows = (_first(tags, numbers[1], 1) for numbers in (WIDTHS, HEIGHTS))
    bands = 1 if _first(tags, PLANAR, 1) == SEPARATE else _first(tags, SAMPLES, 1)
    return width * rows * bands * -(-_first(tags, BITS, 1) // 8)


def check_directory(stream: BytesIO | BufferedReader, start: int, tags: Tags) -> None:
    """Refuses a file of whose layout libtiff, which decodes, may read something else than Pillow, such as huge tiles.

    Pillow ends at a damaged tag, and of a tag that is there twice it takes the last.

    Args:
        stream: the file.
        start: where the image begins in it.
        tags: that Pillow read.

    Raises:
        NotRead: a tag of the layout is missing among those that it read, or there twice, or below 1.
    """
    stream.seek(start)
    header = stream.read(16)
    order, big = "<" if header[:2] == b"II" else ">", 43 in header[2:4]
    if big and order == ">":  # for Pillow, this is no BigTIFF
        raise NotRead("its directory is damaged")
    (offset,) = struct.unpack(order + "Q", header[8:16]) if big else struct.unpack(order + "L", header[4:8])
    stream.seek(start + offset)
    (count,) = struct.unpack(order + ("Q" if big else "H"), stream.read(8 if big else 2))
    entry = struct.Struct(order + ("H18x" if big else "H10x"))
    directory = stream.read(min(count, MAX_TAGS) * entry.size)
    numbers = [number for (number,) in entry.iter_unpack(directory[: len(directory) // entry.size * entry.size])]
    held = [number for number in numbers if number in LAYOUT]
    if len(held) > len(set(held)) or any(number not in tags or _first(tags, number, 1) < 1 for number in held):
        raise NotRead("its directory is damaged")


def is_decoded_wrongly(tags: Tags) -> bool:
    """Whether Pillow gives other pixels than the file holds, or none.

    It reads planes of more than 8 bits as if they were interleaved, planes of most kinds with alpha not at all, of grey
    planes and of a volume only the first, YCbCr only where it is compressed, only the high bytes of colours that do not
    use all of 16 bits, and some big-endian values as little-endian if compressed.
    """
    bits, compression = _first(tags, BITS, 1), _first(tags, COMPRESSION, 1)
    big_endian = getattr(tags, "prefix", b"") == b"MM" and compression != UNCOMPRESSED
    swapped = big_endian and (bits > 16 or (bits == 16 and _first(tags, SAMPLE_FORMAT, 1) == SIGNED))
    grey = _first(tags, PHOTOMETRIC, 1) in (WHITE_IS_ZERO, BLACK_IS_ZERO)
    unread = bits > 8 or grey or _has_unread_alpha(tags)
    planes = _first(tags, PLANAR, 1) == SEPARATE and _first(tags, SAMPLES, 1) > 1 and unread
    ycbcr = _first(tags, PHOTOMETRIC, 1) == YCBCR and compression == UNCOMPRESSED
    narrow = _first(tags, SAMPLES, 1) > 1 and _declared_white(tags) is not None
    return swapped or planes or ycbcr or narrow or _first(tags, DEPTH, 1) > 1


def _has_unread_alpha(tags: Tags) -> bool:
    """Whether Pillow cannot read the alpha of separate planes: it can behind red, green and blue, not multiplied."""
    alpha = _first(tags, EXTRA_SAMPLES, 0)
    return alpha == ASSOCIATED or (alpha == UNASSOCIATED and _first(tags, SAMPLES, 1) != 4)


def white_level(tags: Tags, extremes: Callable[[], tuple[float, float]]) -> int | None:
    """The value of white of integers that do not use all their bits, as the tags say; None: they do, or are floats.

    Args:
        tags: of the image.
        extremes: the smallest and the largest of its colours, which may prove the tags wrong.
    """
    if (white := _declared_white(tags)) is None:
        return None
    low, high = extremes()
    return white if low >= 0 and high <= white else None


def _declared_white(tags: Tags) -> int | None:
    """MaxSampleValue counts only if it is the largest value of 9 to 15 bits: many write the image's maximum there."""
    bits, values = _first(tags, BITS, 1), _first(tags, SAMPLE_FORMAT, 1)
    if values == SIGNED and bits == 16:
        return 2**15 - 1
    if values != 1 or not 8 < bits <= 16:
        return None
    largest = _first(tags, MAX_VALUE, 0)
    white = min(2**bits - 1, largest if largest in NARROW else 2**16 - 1)
    return white if white < 2**16 - 1 else None


def correct_values(image: Image.Image, *, name: str) -> Image.Image:
    """A decoded image with the values that its tags mean.

    Pillow reads signed bytes and unsigned 32-bit integers with the other sign, inverts white-is-zero images only up to
    8 bits, takes a fourth band for alpha though nothing says so, and palettes of 8 bits for black.

    Args:
        image: as Pillow decoded it.
        name: the image's name in notes.
    """
    tags: Tags = getattr(image, "tag_v2", {})
    bits, values = _first(tags, BITS, 1), _first(tags, SAMPLE_FORMAT, 1)
    if image.mode == "P" and max(tags.get(COLOUR_MAP, (0,))) in range(1, 256):
        planes = np.array(tags[COLOUR_MAP], np.uint8).reshape(3, -1)
        image.putpalette(planes.T.tobytes())
    if _first(tags, PHOTOMETRIC, 1) == RGB and _first(tags, SAMPLES, 3) > 3 and _drops_bands(image, tags):
        note_first(DROPPED, name)
        return _with_info(image.convert("RGB"), image) if EXTRA_SAMPLES not in tags else image
    if image.mode == "L" and bits == 8 and values == SIGNED:
        return _with_info(image.point([value ^ 128 for value in range(256)]), image)
    if image.mode != "F" and not image.mode.startswith("I"):
        return image
    dtype = np.dtype(np.uint32) if image.mode == "I" and bits == 32 and values != SIGNED else None
    grey = to_8_bits(image, name=name, white=white_level(tags, partial(extremes, image)), dtype=dtype)
    if _first(tags, PHOTOMETRIC, 1) == WHITE_IS_ZERO:
        np.subtract(255, grey, out=grey)
    return _with_info(Image.fromarray(grey), image)


def _drops_bands(image: Image.Image, tags: Tags) -> bool:
    colours = 4 if image.mode == "RGBA" and EXTRA_SAMPLES in tags else 3
    return _first(tags, SAMPLES, 3) > colours


def _with_info(image: Image.Image, original: Image.Image) -> Image.Image:
    image.info = dict(original.info)
    return image


def _silence_libtiff() -> None:
    """Lets libtiff, which Pillow loads, print nothing of its own: what it cannot decode raises an error anyway.

    Pillow has no setting for it. Where libtiff is built into Pillow, its functions cannot be found, and it prints.
    """
    library = ctypes.CDLL(Image.core.__file__)
    for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        if (function := getattr(library, name, None)) is not None:
            function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_void_p
            function(None)


_silence_libtiff()
