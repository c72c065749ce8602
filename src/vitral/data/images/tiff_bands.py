"""Pictures from TIFF files of kinds that Pillow does not read, whose bands tifffile reads."""

import logging
from importlib import import_module
from io import BufferedReader, BytesIO
from typing import Any

import numpy as np
from einops import rearrange
from PIL import ExifTags, Image

from vitral.data.images import tiff
from vitral.data.images.errors import NotRead
from vitral.data.images.limits import check_size
from vitral.data.images.values import to_8_bits
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
            values = page.asarray(maxworkers=1, buffersize=BUFFER).reshape(page.shaped)
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            raise NotRead(f"{kind}, compressed as {page.compression.name}: {EXTRA}") from None
        bands = [rearrange(values, "s 1 h w c -> h w (s c)")]
        del values
        picture = _picture(bands.pop(), page, tags, name=name)  # so that nothing else keeps them in memory
        picture.info, picture.format = _metadata(page), "TIFF"
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


def _picture(bands: np.ndarray, page: Any, tags: tiff.Tags, *, name: str) -> Image.Image:
    count, alpha = COLOURS[page.photometric], _has_alpha(page)
    if _is_grey(page) and bands.shape[2] == 3 and not alpha:
        note_first(UNNAMED, name)
        count = 3
    if bands.shape[2] > count + alpha:
        note_first(tiff.DROPPED, name)
    colours = bands[:, :, :count]
    if page.photometric == PALETTE:
        return Image.fromarray((page.colormap[:, colours[:, :, 0]] >> 8).astype(np.uint8).transpose(1, 2, 0))
    white = tiff.white_level(tags, colours)
    pixels = to_8_bits(colours, name=name, white=white)
    opacity = None
    if alpha:
        opacity = to_8_bits(bands[:, :, count : count + 1], name=name, white=white or _opaque(bands.dtype))
    del bands, colours  # nothing else keeps them in memory
    if page.photometric == WHITE_IS_ZERO:
        pixels = 255 - pixels
    if count == 4:
        inks = np.ascontiguousarray(pixels)
        return Image.frombuffer("CMYK", (pixels.shape[1], pixels.shape[0]), inks, "raw", "CMYK", 0, 1)
    if opacity is None:
        return Image.fromarray(pixels[:, :, 0] if count == 1 else pixels)
    together = np.empty((*pixels.shape[:2], 4), np.uint8)
    together[:, :, :3], together[:, :, 3:] = pixels, opacity
    size = pixels.shape[1], pixels.shape[0]
    stored = "RGBa" if page.extrasamples[0] == tiff.ASSOCIATED else "RGBA"
    return Image.frombuffer(stored, size, together, "raw", stored, 0, 1).convert("RGBA")


def _opaque(dtype: np.dtype) -> int | None:
    """The alpha of opaque pixels; None: of bytes, which keep their range."""
    if dtype.itemsize == 1:
        return None
    return 1 if dtype.kind == "f" else int(np.iinfo(dtype).max)


def _metadata(page: Any) -> dict[str | tuple[int, int], Any]:
    fields = {"icc_profile": 34675, "xmp": 700}
    return {name: value for name, tag in fields.items() if isinstance(value := page.tags.valueof(tag), bytes)}
