"""The compressed rows of PNG files, and rows of 16-bit colours, which Pillow decodes to 8 bits only."""

import zlib
from collections.abc import Callable, Iterator
from io import BufferedReader, BytesIO

import numpy as np
from PIL import Image

from vitral.data.images.errors import NotRead

__all__ = ["FIRST_CHUNK", "LOW", "PIECE", "SIGNATURE", "compressed_rows", "deep_rows"]

SIGNATURE, FIRST_CHUNK = 8, 25
"""Bytes before the chunks of a PNG, and of its first chunk."""

PIECE = 2**16
"""Bytes that are read or decompressed at a time."""

PIXELS = 2**17
"""Pixels that are decoded at a time."""

LOW = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}
"""Raw modes with which Pillow reads the high byte of each value, and those with which it reads the low byte."""

Stream = BytesIO | BufferedReader


def compressed_rows(stream: Stream) -> Iterator[bytes]:
    """The compressed rows of a PNG in parts, from a stream that stands before its second chunk.

    Raises:
        NotRead: a chunk of them has another checksum; Pillow does not compare it.
    """
    while len(head := stream.read(8)) == 8:
        size, kind = int.from_bytes(head[:4]), head[4:]
        if kind != b"IDAT":
            stream.seek(size + 4, 1)
            continue
        checksum = zlib.crc32(kind)
        while size and (content := stream.read(min(size, PIECE))):
            size -= len(content)
            checksum = zlib.crc32(content, checksum)
            yield content
        if int.from_bytes(stream.read(4)) != checksum:
            raise NotRead("it is damaged (the checksum of its pixels is wrong)")


def deep_rows(stream: Stream, start: int, *, rawmode: str, size: tuple[int, int]) -> Iterator[tuple[int, np.ndarray]]:
    """The 16-bit values of some rows at a time, "h w c", and the number of the first of them.

    Args:
        stream: the file.
        start: where the image begins in it.
        rawmode: Pillow's, a key of `LOW`.
        size: width and height.

    Raises:
        NotRead: there are too few rows.
    """
    (width, height), channels = size, rawmode.index(";")
    bytes_per_row, rows = 2 * channels * width, max(1, PIXELS // width)
    stream.seek(start + SIGNATURE + FIRST_CHUNK)
    take = _reader(compressed_rows(stream))
    before = bytes(bytes_per_row)
    for top in range(0, height, rows):
        count = min(rows, height - top)
        # rows are stored as differences to the one before, which comes first as it is
        part = zlib.compress(b"".join((b"\0", before, take(count * (1 + bytes_per_row)))), 0)
        high, low = (
            np.asarray(Image.frombytes(mode, (width, count + 1), part, "zip", (raw, 0)))
            for mode, raw in ((rawmode[:channels], rawmode), (rawmode[:channels], LOW[rawmode]))
        )
        values = high[1:].astype(np.uint16) << 8 | low[1:]
        before = values[-1].astype(">u2").tobytes()
        yield top, values


def _reader(parts: Iterator[bytes]) -> Callable[[int], bytes]:
    """A function that gives the next bytes of decompressed rows."""
    inflate, waiting = zlib.decompressobj(), b""

    def take(size: int) -> bytes:
        nonlocal waiting
        content = bytearray()
        while len(content) < size:
            waiting = waiting or next(parts, b"")
            if not waiting or inflate.eof:
                raise NotRead("it is damaged or truncated (its pixels end early)")
            content += inflate.decompress(waiting, size - len(content))
            waiting = inflate.unconsumed_tail
        return bytes(content)

    return take
