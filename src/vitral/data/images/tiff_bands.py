"""Pictures from TIFF files of kinds that Pillow does not read, whose bands tifffile reads."""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from io import BufferedReader, BytesIO
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Num, UInt8
from PIL import ExifTags, Image

from vitral.data.images import tiff
from vitral.data.images.errors import NotRead
from vitral.data.images.limits import check_size
from vitral.data.images.strips import MappedPixels
from vitral.data.images.values import parts, scale, usual_range
from vitral.data.notes import note_first

__all__ = ["read_picture"]

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK = 0, 1, 2, 3, 5
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4}
"""Bands of colour by PhotometricInterpretation."""
BUFFER = 2**22
"""Bytes of strips or tiles that are read at a time."""

EXTRA = "pip install 'vitral[images]' reads it"
UNNAMED = "its three bands are of no stated colour and are read as red, green and blue"

# what tifffile says of damaged files
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def read_picture(stream: BytesIO | BufferedReader, tags: tiff.Tags, *, name: str) -> Image.Image:
    """The first image of a TIFF as 8-bit pixels, with its profile and its orientation.

    Args:
        stream: the file.
        tags: of its first image.
        name: the image's name in notes.

    Returns:
        An image of mode "L", "LA", "RGB", "RGBA" or "CMYK".

    Raises:
        NotRead: the kind of TIFF is not read, needs a package, or the image is too large or truncated.
    """
    kind = f"it is a TIFF of {tiff.kind(tags)}"
    try:
        tifffile = import_module("tifffile")
    except ImportError:
        raise NotRead(f"{kind}: {EXTRA}") from None
    with tifffile.TiffFile(stream) as file:
        page = file.pages.first
        _check(page, kind, size=stream.seek(0, 2))
        try:
            picture = _picture(page, tags, name=name)
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            raise NotRead(f"{kind}, compressed as {page.compression.name}: {EXTRA}") from None
        picture.info |= _metadata(page)
        picture.format = "TIFF"
        orientation = page.tags.valueof(ExifTags.Base.Orientation)
    if orientation is not None:
        picture.getexif()[ExifTags.Base.Orientation] = int(orientation)
    return picture


def _check(page: Any, kind: str, *, size: int) -> None:
    """Refuses what is not read, before memory is taken for it."""
    pixels, bands = page.imagewidth * page.imagelength, page.samplesperpixel
    if page.imagedepth != 1 or page.dtype is None or page.dtype.kind not in "iuf" or not _has_colours(page):
        raise NotRead(
            f"{kind}, which is no picture: save it as RGB or grey, or read all its channels with --data.channels"
        )
    check_size(page.imagewidth, page.imagelength, depth=max(1, bands * page.dtype.itemsize // 8))
    parts = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    stored = sum(count for _, count in parts)
    short = page.compression == 1 and 8 * stored < pixels * bands * page.bitspersample
    if not parts or short or any(not count or offset + count > size for offset, count in parts):
        raise NotRead("it is truncated")


def _has_colours(page: Any) -> bool:
    """Whether the bands are colours, with or without others after them."""
    colours, bands = COLOURS.get(page.photometric), page.samplesperpixel
    if colours is None or bands < colours:
        return False
    return colours > 1 or bands == 1 or _has_alpha(page) or (_is_grey(page) and bands == 3)


def _is_grey(page: Any) -> bool:
    return page.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO)


def _has_alpha(page: Any) -> bool:
    return bool(page.extrasamples) and page.extrasamples[0] in (tiff.ASSOCIATED, tiff.UNASSOCIATED)


def _picture(page: Any, tags: tiff.Tags, *, name: str) -> Image.Image:
    """The image in 8 bits. Values are scaled as they are decoded, so that few of them are in memory."""
    count, mode = _colours(page, name)
    size = page.imagewidth, page.imagelength
    if mode == "L":
        grey = np.empty((*reversed(size), 1), np.uint8)
        _fill(grey, page, tags, count, alpha=False, name=name)
        return Image.fromarray(grey[:, :, 0])
    mapped = MappedPixels.of(size, mode)
    pixels = np.frombuffer(mapped.memory, np.uint8).reshape(*reversed(size), 4)
    if page.photometric == PALETTE:
        for part in _parts(page, 1):
            part.place(pixels)[:, :, :3] = np.moveaxis(page.colormap[:, part.values[:, :, 0]] >> 8, 0, 2)
    else:
        _fill(pixels, page, tags, count, alpha=mode == "RGBA", name=name)
    if mode == "RGBA" and page.extrasamples[0] == tiff.ASSOCIATED:
        _divide_by_alpha(pixels)
    return mapped.image()


def _colours(page: Any, name: str) -> tuple[int, str]:
    """The number of bands of colour, and the mode of the image that they make."""
    count, alpha = COLOURS[page.photometric], _has_alpha(page)
    if _is_grey(page) and page.samplesperpixel == 3 and not alpha:
        note_first(UNNAMED, name)
        count = 3
    if page.samplesperpixel > count + alpha:
        note_first(tiff.DROPPED, name)
    if count == 4:
        return count, "CMYK"
    if count == 3 or page.photometric == PALETTE:
        return count, "RGBA" if alpha and count == 3 else "RGB"
    return count, "RGBA" if alpha else "L"


def _fill(
    pixels: UInt8[np.ndarray, "h w c"], page: Any, tags: tiff.Tags, count: int, *, alpha: bool, name: str
) -> None:
    """Writes the bands of colour into pixels of one band or four, and alpha into the fourth."""
    white = tiff.white_level(tags, partial(_extremes, page, count))
    colours = _colour_range(page, count, white, name)
    opacity = _alpha_range(page.dtype, white)
    for part in _parts(page, count + alpha):
        place = part.place(pixels)
        for band, values in enumerate(np.moveaxis(part.values, 2, 0), part.band):
            if band == count:
                place[:, :, 3] = _to_8_bits(values, opacity)
                continue
            shown = _to_8_bits(values, colours)
            channels = slice(3) if count == 1 else slice(band, band + 1)
            place[:, :, channels] = (255 - shown if page.photometric == WHITE_IS_ZERO else shown)[:, :, None]


def _to_8_bits(values: np.ndarray, limits: tuple[float, float] | None) -> np.ndarray:
    return values if limits is None else scale(values, *limits).astype(np.uint8)


def _colour_range(page: Any, count: int, white: int | None, name: str) -> tuple[float, float] | None:
    """The values that are black and white; None: bytes, which stay as they are."""
    if white is not None:
        return 0.0, float(white)
    if page.dtype == np.uint8:
        return None
    # all that two bytes can hold is a usual range
    low, high = (0.0, 65535.0) if page.dtype == np.uint16 else _extremes(page, count)
    return usual_range(low, high, kind=page.dtype, name=name)


def _alpha_range(dtype: np.dtype, white: int | None) -> tuple[float, float] | None:
    """The alpha of transparent and opaque pixels; None: bytes, which stay as they are."""
    if dtype.itemsize == 1:
        return None if dtype.kind == "u" else (-128.0, 127.0)
    return 0.0, float(white or (1 if dtype.kind == "f" else np.iinfo(dtype).max))


def _extremes(page: Any, count: int) -> tuple[float, float]:
    """The smallest and the largest value of the colours; NaN if there is one."""
    bounds = [(part.values.min(), part.values.max()) for part in _parts(page, count)]
    return float(np.min([low for low, _ in bounds])), float(np.max([high for _, high in bounds]))


def _divide_by_alpha(pixels: UInt8[np.ndarray, "h w 4"]) -> None:
    """Makes colours that are multiplied with alpha independent of it."""
    for top, rows in parts(pixels):
        image = Image.frombytes("RGBa", (rows.shape[1], rows.shape[0]), rows.tobytes())
        pixels[top : top + len(rows)] = np.asarray(image.convert("RGBA"))


@dataclass(frozen=True)
class _Part:
    """Some rows of a strip or a tile."""

    top: int
    left: int
    band: int
    """The first of its bands."""
    values: Num[np.ndarray, "h w c"]

    def place(self, pixels: np.ndarray) -> np.ndarray:
        """The part of an image's pixels that it belongs to."""
        height, width, _ = self.values.shape
        return pixels[self.top : self.top + height, self.left : self.left + width]


def _parts(page: Any, count: int) -> Iterator[_Part]:
    """The first bands of an image."""
    segments = _rows(page) if _is_plain(page) else page.segments(maxworkers=1, buffersize=BUFFER)
    for values, (band, _, top, left, _), shape in segments:
        if band >= count:
            continue
        decoded = np.full(shape, page.nodata, page.dtype) if values is None else values
        inside = decoded[0, : page.imagelength - top, : page.imagewidth - left, : count - band]
        for start, rows in parts(inside):
            yield _Part(top + start, left, band, rows)


def _is_plain(page: Any) -> bool:
    """Whether the values are in the file as they are, one after another."""
    return page.is_contiguous and page.predictor == 1 and page.fillorder == 1


def _rows(page: Any) -> Iterator[tuple[np.ndarray, tuple[int, ...], tuple[int, ...]]]:
    """As tifffile's `segments`, which would read a strip that is the whole image at once."""
    planes, _, height, width, bands = page.shaped
    dtype, file = page.dtype.newbyteorder(page.parent.byteorder), page.parent.filehandle
    most = max(1, BUFFER // (width * bands * dtype.itemsize))
    file.seek(page.dataoffsets[0])
    for plane, top in product(range(planes), range(0, height, most)):
        shape = 1, min(most, height - top), width, bands
        yield file.read_array(dtype, math.prod(shape)).reshape(shape), (plane, 0, top, 0, 0), shape


def _metadata(page: Any) -> dict[str | tuple[int, int], Any]:
    fields = {"icc_profile": 34675, "xmp": 700}
    return {name: value for name, tag in fields.items() if isinstance(value := page.tags.valueof(tag), bytes)}
