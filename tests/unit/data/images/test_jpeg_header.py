"""What a JPEG says before its pixels."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from picture_files import COLOUR, exif, xmp
from vitral.data.images.jpeg_header import JpegHeader, unread_kind


def encoded(**options: object) -> bytes:
    stream = BytesIO()
    Image.fromarray(COLOUR).save(stream, "JPEG", **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("options", "upright"),
    [
        ({}, True),
        ({"exif": exif(1)}, True),
        ({"exif": exif(6)}, False),
        ({"xmp": xmp(1)}, True),
        ({"xmp": xmp(8)}, False),
    ],
)
def test_orientation(options: dict[str, object], upright: bool) -> None:
    header = JpegHeader.read(encoded(**options))
    assert header is not None
    assert header.upright == upright
    assert header.profile is None


def test_padding_between_segments() -> None:
    content = encoded(exif=exif(6))
    header = JpegHeader.read(content[:2] + b"\xff\xff" + content[2:])
    assert header is not None
    assert not header.upright


def test_a_profile_that_lacks_a_part_is_none() -> None:
    content = encoded(icc_profile=bytes(100_000))
    whole = JpegHeader.read(content)
    assert whole is not None
    assert whole.profile == bytes(100_000)
    last = content.index(b"ICC_PROFILE\0\2\2") - 4
    size = int.from_bytes(content[last + 2 : last + 4])
    header = JpegHeader.read(content[:last] + content[last + 2 + size :])
    assert header is not None
    assert header.profile is None


def test_files_cut_before_their_pixels() -> None:
    content = encoded(exif=exif(6))
    for size in (*range(60), 200):
        assert JpegHeader.read(content[:size]) is None
    assert JpegHeader.read(b"\x89PNG" + bytes(100)) is None


@pytest.mark.parametrize(
    ("marker", "precision", "kind"),
    [
        (0xC0, 8, None),
        (0xC1, 12, "a JPEG of 12 bits"),
        (0xC3, 8, "a lossless JPEG"),
        (0xF7, 8, "a JPEG-LS image"),
        (0xC4, 12, None),
    ],
)
def test_kinds(marker: int, precision: int, kind: str | None) -> None:
    frame = bytes([0xFF, marker, 0, 11, precision, 0, 16, 0, 16, 1, 1, 0x11, 0])
    late = b"\xff\xe1\xff\xff" + bytes(65533)  # metadata before it
    assert unread_kind(b"\xff\xd8" + frame) == kind
    assert unread_kind(b"\xff\xd8" + 2 * late + frame) == kind
    assert unread_kind(np.zeros(10, np.uint8).tobytes()) is None
