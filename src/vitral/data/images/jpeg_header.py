"""What a JPEG's segments say before its pixels: orientation, colour profile, and kinds that are not read."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

from PIL import ExifTags, Image

__all__ = ["JpegHeader", "missing_scans", "unread_kind"]

SOI, EOI, SCAN, RESTARTS, APP1, APP2 = b"\xff\xd8", b"\xff\xd9", 0xDA, 0xDD, 0xE1, 0xE2
"""The first bytes of a JPEG, its last, and markers."""

FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of frames: what follows says how the pixels are coded."""

LOSSLESS = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
"""Frames without loss, which libjpeg does not decode with colours."""

SEQUENTIAL = (b"\xc0", b"\xc1")
"""Frames whose rows of blocks follow one another, in Huffman codes."""

PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
"""Frames of several scans, each of which makes all pixels better."""

JPEG_LS = 0xF7

AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""The next marker after the pixels of a scan: they hold no other bytes like it."""

BLOCK = 8
"""Rows of a block of pixels."""

COEFFICIENTS, ALL_BITS = BLOCK**2, 16
"""Coefficients of a block of pixels, the first of which is its mean, and more bits than one has."""

PROFILE = b"ICC_PROFILE\0"

UPRIGHT = (None, 1)
"""EXIF orientations of an image that is stored upright."""


@dataclass(frozen=True, kw_only=True)
class JpegHeader:
    """What matters of a JPEG's header."""

    upright: bool
    """Whether it needs no rotation or flip."""
    profile: bytes | None
    """Its colour profile; None: it has none, or not all parts of it."""
    coefficients: int
    """Bytes of those that libjpeg keeps: all, if several scans give them; none, if one does."""
    height_at: int | None
    """Where the file says its height, in two bytes; None: `cut` leaves the file whole."""
    unit: int
    """Rows that are coded together."""

    @classmethod
    def read(cls, data: bytes) -> "JpegHeader | None":
        """Reads the segments before the pixels; None if they are damaged."""
        metadata, parts, profile, frame, height_at, restarts = False, [], None, b"", 0, False
        for marker, start, end in _segments(data):
            if marker == SCAN:
                coefficients = _coefficients(frame, bands=data[start]) if start < len(data) else 0
                in_order = not restarts and not coefficients and frame[:1] in SEQUENTIAL
                return cls(
                    upright=not metadata or _is_upright(data),
                    profile=profile,
                    coefficients=coefficients,
                    height_at=height_at if in_order else None,
                    unit=BLOCK * max((code & 15 for code in frame[8::3]), default=1),
                )
            if marker in FRAMES:
                frame, height_at = bytes([marker]) + data[start:end], start + 1
                profile = _profile(parts)  # Pillow reads none that comes later
            elif marker == RESTARTS:
                restarts = True
            elif marker == APP1:
                metadata = metadata or data.startswith(b"Exif\0", start, end) or data.find(b"Orient", start, end) >= 0
            elif marker == APP2 and data.startswith(PROFILE, start, end):
                parts.append(data[start:end])
        return None

    def cut(self, data: bytes, *, bottom: int, height: int) -> tuple[bytes, int]:
        """The file with a lower height, so that a decoder stops soon after a row; it then finds what is left over.

        Rows above `bottom` are decoded as before: those below that are mixed into their colours stay. A file of several
        passes stays whole, and one with restart markers, as a decoder does not say whether these end early.

        Args:
            data: the file.
            bottom: rows that are needed.
            height: of the image.

        Returns:
            The file and its height, both as they were if nothing can be left out.
        """
        rows = (-(-bottom // self.unit) + 1) * self.unit
        if self.height_at is None or rows >= height:
            return data, height
        return data[: self.height_at] + rows.to_bytes(2) + data[self.height_at + 2 :], rows


def unread_kind(head: bytes) -> str | None:
    """What a JPEG is that no library here decodes, such as `a JPEG of 12 bits`; None for any other file."""
    for marker, start, _ in _segments(head):
        if marker in LOSSLESS:
            return "a lossless JPEG"
        if marker == JPEG_LS:
            return "a JPEG-LS image"
        if marker in FRAMES and head[start : start + 1] not in (b"\x08", b""):
            return f"a JPEG of {head[start]} bits"
    return None


def missing_scans(data: bytes) -> str:
    """What a JPEG that ends well leaves out: a `band`, some `detail`, or nothing, as an empty text."""
    left_out: dict[int, list[int]] = {}
    for marker, start, end in _segments_of_all_scans(data):
        if marker in FRAMES:
            left_out = {band: [ALL_BITS] * COEFFICIENTS for band in data[start + 6 : end : 3]}
        elif marker == SCAN and end - start >= 4:
            *bands, first, last, bits = data[start + 1 : end]
            if len(bands) == 2 * len(left_out) and (first, last, bits) == (0, COEFFICIENTS - 1, 0):
                return ""  # the usual file, of a single scan
            for band in left_out.keys() & set(bands[::2]):
                left_out[band][first : last + 1] = [bits & 15] * (last + 1 - first)
    if any(band[0] == ALL_BITS for band in left_out.values()):
        return "band"
    return "detail" if any(map(any, left_out.values())) else ""


def _segments_of_all_scans(data: bytes) -> Iterator[tuple[int, int, int]]:
    """As `_segments`, up to the end of the image."""
    position = 0
    while position is not None:
        scan = None
        for marker, start, end in _segments(data, position):
            yield marker, start, end
            scan = end if marker == SCAN else None
        following = None if scan is None else AFTER_SCAN.search(data, scan)
        position = following.start() if following and following[0] != EOI else None


def _segments(data: bytes, position: int = 0) -> Iterator[tuple[int, int, int]]:
    """The marker of each segment up to the pixels, and where its contents begin and end.

    Args:
        data: the file.
        position: of a marker; 0: of the first.
    """
    position = position or (2 if data.startswith(SOI) else len(data))
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # padding
            position += 1
            continue
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4])
        yield marker, position + 4, end
        if marker == SCAN:
            return
        position = end


def _coefficients(frame: bytes, *, bands: int) -> int:
    """Bytes of the coefficients of a frame whose first scan has this many bands."""
    if len(frame) < 7 or (frame[0] not in PROGRESSIVE and bands == frame[6]):
        return 0
    height, width = int.from_bytes(frame[2:4]), int.from_bytes(frame[4:6])
    samples = [(code >> 4) * (code & 15) for code in frame[8::3]]
    return 2 * width * height * sum(samples) // max(*samples, 1) if samples else 0


def _profile(parts: list[bytes]) -> bytes | None:
    """The profile whose parts, each with its number and theirs, are in segments of their own."""
    at = len(PROFILE)
    if not parts or any(len(part) < at + 2 or part[at + 1] != len(parts) for part in parts):
        return None
    return b"".join(part[at + 2 :] for part in sorted(parts))


def _is_upright(data: bytes) -> bool:
    try:
        with Image.open(BytesIO(data), formats=("JPEG",)) as image:
            return image.getexif().get(ExifTags.Base.Orientation) in UPRIGHT
    # `read_image` handles damaged metadata
    except Exception:
        return False
