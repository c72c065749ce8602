"""What the boxes of JPEG 2000 and JPEG XL files say: their size before memory is taken for it, and metadata."""

from collections.abc import Iterator
from io import BufferedReader, BytesIO

from vitral.data.images.limits import check_size

__all__ = ["check_codestream", "list_boxes", "metadata"]

SIGNATURES = (b"\x00\x00\x00\x0cjP  ", b"\x00\x00\x00\x0cJXL ")
JPEG2000, JPEG_XL = b"\xff\x4f\xff\x51", b"\xff\x0a"
"""First bytes of codestreams."""
CODESTREAM_BYTES = 64
"""Bytes of a codestream that hold its size."""
MAX_METADATA = 2**24
"""Bytes of a profile or of metadata that are read."""

EXIF, XMP = b"JpgTiffExif->JP2", bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
"""UUIDs of boxes."""
PROFILES = (2, 3)
"""Values of the method of a colour box that holds an ICC profile."""

SIZES = (9, 13, 18, 30)
"""Bits of a length in a JPEG XL codestream, by its selector."""
RATIOS = {1: (1, 1), 2: (6, 5), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
"""Width over height in a JPEG XL codestream."""

Stream = BytesIO | BufferedReader


def check_codestream(stream: Stream, start: int, head: bytes) -> tuple[int, int] | None:
    """Refuses an image whose codestream has too many pixels: decoders take memory for it before Pillow sees its size.

    Args:
        stream: the file.
        start: where the image begins in it.
        head: its first bytes.

    Returns:
        Width and height of a JPEG XL, whose decoder takes memory for its pixels when it is opened; None for others.

    Raises:
        NotRead: it has too many pixels.
    """
    if head.startswith((JPEG2000, JPEG_XL)):
        code = _read(stream, start, CODESTREAM_BYTES)
    elif head.startswith(SIGNATURES):
        found = (
            _read(stream, at + 4 * (kind == b"jxlp"), CODESTREAM_BYTES)
            for kind, at, _ in list_boxes(stream, start)
            if kind in (b"jp2c", b"jxlc", b"jxlp")
        )
        code = next(found, b"")
    else:
        return None
    if code.startswith(JPEG2000) and len(code) >= 42:
        right, bottom, left, top = (int.from_bytes(code[at : at + 4]) for at in (8, 12, 16, 20))
        components = int.from_bytes(code[40:42])
        if right > left and bottom > top:
            check_size(right - left, bottom - top, depth=max(1, components // 4))
    elif code.startswith(JPEG_XL):
        size = _jpeg_xl_size(code[2:])
        check_size(*size)
        return size
    return None


def metadata(stream: Stream, start: int) -> dict[str, bytes]:
    """EXIF, XMP and the colour profile of a JPEG 2000 file, which Pillow does not read, under Pillow's names."""
    metadata = {}
    for kind, at, size in list_boxes(stream, start):
        if size > MAX_METADATA or kind not in (b"uuid", b"jp2h"):
            continue
        content = _read(stream, at, size)
        if kind == b"jp2h":
            inner = BytesIO(content)
            for name, place, length in list_boxes(inner, 0):
                if name == b"colr" and length > 3 and content[place] in PROFILES:
                    metadata["icc_profile"] = content[place + 3 : place + length]
        elif content.startswith(EXIF):
            metadata["exif"] = content[len(EXIF) :]
        elif content.startswith(XMP):
            metadata["xmp"] = content[len(XMP) :]
    return metadata


def list_boxes(stream: Stream, start: int) -> Iterator[tuple[bytes, int, int]]:
    """The kind of each box, where its contents begin, and their size in bytes."""
    end = stream.seek(0, 2)
    while start + 8 <= end:
        head = _read(stream, start, 16)
        size, header = int.from_bytes(head[:4]), 8
        if size == 1:
            size, header = int.from_bytes(head[8:16]), 16
        elif size == 0:
            size = end - start
        if size < header:
            return
        yield head[4:8], start + header, min(size, end - start) - header
        start += size


def _read(stream: Stream, start: int, size: int) -> bytes:
    stream.seek(start)
    return stream.read(size)


def _jpeg_xl_size(code: bytes) -> tuple[int, int]:
    """Width and height at the start of a JPEG XL codestream, whose bits begin with the lowest of each byte."""
    bits = int.from_bytes(code, "little")

    def take(count: int) -> int:
        nonlocal bits
        value, bits = bits & (2**count - 1), bits >> count
        return value

    def length() -> int:
        return 8 * (take(5) + 1) if small else take(SIZES[take(2)]) + 1

    small = take(1)
    height = length()
    ratio = take(3)
    if not ratio:
        return length(), height
    across, down = RATIOS[ratio]
    return height * across // down, height
