"""Coded images inside HEIC and AVIF files: their decoders take a part that is lost for pixels, and say nothing."""

from collections.abc import Iterator
from io import BufferedReader, BytesIO

from vitral.data.images.boxes import list_boxes
from vitral.data.images.errors import NotRead

__all__ = ["check_coded_data"]

ZEROS = {b"hvc1": 16, b"av01": 1024}
"""Zeros in sequence that a coded image never has. HEVC forbids three, but for lengths; AV1 codes 5 million values or
more in 1024 bytes of zeros."""

MAX_METADATA = 2**24
"""Bytes of the description of the items that are read."""

Stream = BytesIO | BufferedReader


def check_coded_data(stream: Stream, start: int) -> None:
    """Refuses a HEIC or AVIF file whose coded image has a part of zeros, as an interrupted copy leaves it.

    Args:
        stream: the file.
        start: where the image begins in it.

    Raises:
        NotRead: the image has such a part.
    """
    end = stream.seek(0, 2)
    meta = next(((at, size) for kind, at, size in list_boxes(stream, start) if kind == b"meta"), None)
    if meta is None:
        return
    at, size = meta
    stream.seek(at + 4)  # a version and flags
    content = BytesIO(stream.read(min(size, MAX_METADATA)))
    parts = {}
    for kind, at, size in list_boxes(content, 0):
        content.seek(at)
        parts[kind] = content.read(size)
    coded = {item: ZEROS[kind] for item, kind in _kinds(parts.get(b"iinf", b"")) if kind in ZEROS}
    for item, at, size in _extents(parts.get(b"iloc", b"")):
        if item not in coded:
            continue
        stream.seek(start + at)
        if bytes(coded[item]) in stream.read(size):
            raise NotRead("it is damaged (a part of its pixels is lost)")
        end -= size
        if end < start:
            return  # parts of whole files do not overlap


def _kinds(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The number and the kind of each item, from the box `iinf`."""
    entries = BytesIO(content[6 if content[:1] == b"\0" else 8 :])
    for kind, at, size in list_boxes(entries, 0):
        entries.seek(at)
        entry = entries.read(size)
        width = {b"\2": 2, b"\3": 4}.get(entry[:1])
        if kind == b"infe" and width is not None:
            yield int.from_bytes(entry[4 : 4 + width]), entry[6 + width : 10 + width]


def _extents(content: bytes) -> Iterator[tuple[int, int, int]]:
    """The number of each item in the file, and where each of its parts begins and its size, from the box `iloc`."""
    stream = BytesIO(content)

    def take(size: int) -> int:
        return int.from_bytes(stream.read(size))

    version = take(4) >> 24
    sizes, more = take(1), take(1)
    number = 2 if version < 2 else 4
    for _ in range(take(number)):
        if stream.tell() >= len(content):
            return
        item = take(number)
        place = take(2) & 15 if version else 0
        take(2)
        base, count = take(more >> 4), take(2)
        for _ in range(count if sizes else 0):
            take(more & 15 if version else 0)
            at, size = base + take(sizes >> 4), take(sizes & 15)
            if stream.tell() > len(content) or not size:
                return
            if place == 0:
                yield item, at, size
