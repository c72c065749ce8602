"""Files that end well but hold too few pixels: decoders make up the others, and say nothing."""

import zlib
from io import BufferedReader, BytesIO
from typing import Any

import simplejpeg
from PIL import Image

from vitral.data.images.errors import NotRead
from vitral.data.images.items import check_coded_data
from vitral.data.images.jpeg_header import missing_scans
from vitral.data.images.png_data import FIRST_CHUNK, PIECE, SIGNATURE, compressed_rows
from vitral.data.notes import note_first

__all__ = ["check_complete", "check_scans"]

MISSING = (127, 128)
"""What libjpeg gives for every band of missing pixels; Pillow inverts those of CMYK."""

EARLY = "premature end"
"""What libjpeg says of them."""

FEWER_SCANS = "its last scans are missing, so it shows less detail than it was made with"

PIXELS_END = "it is damaged or truncated (its pixels end early)"

BANDS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Values of a pixel by the colour type of a PNG."""

ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column, first row, and steps between columns and rows, of each pass of an interlaced PNG."""

Stream = BytesIO | BufferedReader


def check_complete(image: Image.Image, stream: Stream, start: int, *, name: str) -> None:
    """Refuses an image whose pixels end early. Only a PNG or JPEG whose last pixels look like it is read again.

    Args:
        image: loaded.
        stream: the file.
        start: where the image begins in it.
        name: the image's name in notes.

    Raises:
        NotRead: pixels are missing.
    """
    match image.format:
        case "PNG":
            _check_png(image, stream, start)
        case "JPEG" | "MPO":
            stream.seek(start)
            _check_jpeg(image, stream.read(), name)
        case "HEIF" | "AVIF":
            check_coded_data(stream, start)


def check_scans(data: bytes, *, name: str) -> None:
    """Refuses a JPEG whose scans leave out a band of colour, and notes one whose scans leave out detail.

    Args:
        data: the file.
        name: the image's name in notes.

    Raises:
        NotRead: a band is missing.
    """
    match missing_scans(data):
        case "band":
            raise NotRead(PIXELS_END)
        case "detail":
            note_first(FEWER_SCANS, name)


def _check_jpeg(image: Image.Image, data: bytes, name: str) -> None:
    check_scans(data, name=name)
    last: Any = image.getpixel((image.width - 1, image.height - 1))
    if not all(value in MISSING for value in (last if isinstance(last, tuple) else (last,))):
        return
    try:
        simplejpeg.decode_jpeg(data, colorspace="GRAY", min_width=1, min_height=1, min_factor=8)
    except ValueError as error:
        # other complaints are of files that are whole
        if EARLY in str(error):
            raise NotRead(PIXELS_END) from None


def _check_png(image: Image.Image, stream: Stream, start: int) -> None:
    stream.seek(start + SIGNATURE)
    header = stream.read(FIRST_CHUNK)
    interlaced = header[20] != 0
    last = image.crop((0, image.height - 1, image.width, image.height))
    if image.mode == "RGBA":
        last = last.convert("RGB")  # black pixels of which none is transparent
    suspicious = interlaced or last.getbbox() is None
    wanted, held, inflate = _png_size(header), 0, zlib.decompressobj()
    for content in compressed_rows(stream):
        if suspicious and held < wanted:
            held += _inflated_size(inflate, content)
    if suspicious and held < wanted:
        raise NotRead(f"it is damaged or truncated (it has {held} of {wanted} bytes of pixels)")


def _png_size(header: bytes) -> int:
    """Bytes of the decompressed rows, each with the byte of its filter."""
    width, height = int.from_bytes(header[8:12]), int.from_bytes(header[12:16])
    bits, passes = header[16] * BANDS[header[17]], ADAM7 if header[20] else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = max(0, -(-(width - left) // across)), max(0, -(-(height - top) // down))
        total += rows * (1 + -(-columns * bits // 8)) if columns else 0
    return total


def _inflated_size(inflate: Any, content: bytes) -> int:
    """Bytes that a part of the rows has when it is decompressed; what follows a damaged byte does not count."""
    size = 0
    while content:
        try:
            size += len(inflate.decompress(content, PIECE))
        except zlib.error:
            break  # Pillow reads what came before
        content = inflate.unconsumed_tail
    return size
