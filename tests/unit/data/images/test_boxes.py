"""JPEG 2000 and JPEG XL: their size is known before memory is taken for it."""

import struct
from io import BytesIO

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from vitral.data.images import boxes
from vitral.data.images.decode import UnreadableImage, read_image


def jpeg2000(**options: object) -> bytes:
    stream = BytesIO()
    Image.new("RGB", (24, 16), "red").save(stream, "JPEG2000", **options)
    return stream.getvalue()


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (16, 24), (256, 256), (300, 200), (1000, 7), (90, 160), (3, 9000)])
@pytest.mark.parametrize("container", [False, True])
def test_the_size_of_a_jpeg_xl_image(size: tuple[int, int], container: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(boxes, "check_size", lambda width, height: seen.append((height, width)))
    content = imagecodecs.jpegxl_encode(np.zeros((*size, 3), np.uint8), usecontainer=container)
    boxes.check_codestream(BytesIO(content), 0, content[:16])
    assert seen == [size]


@pytest.mark.parametrize("options", [{}, {"no_jp2": True}])
def test_a_jpeg_2000_image_that_claims_too_much(options: dict[str, object]) -> None:
    """In its codestream only: the box that Pillow reads still says 24x16."""
    content = bytearray(jpeg2000(**options))
    assert read_image(bytes(content), channels=3).size == (24, 16)
    at = content.index(b"\xff\x4f\xff\x51")
    content[at + 8 : at + 16] = struct.pack(">II", 60_000, 60_000)
    with pytest.raises(UnreadableImage, match="60000x60000 pixels are more than"):
        read_image(bytes(content), channels=3)


@pytest.mark.parametrize("container", [False, True])
def test_a_jpeg_xl_image_that_claims_too_much(container: bool) -> None:
    content = imagecodecs.jpegxl_encode(np.zeros((16, 24, 3), np.uint8), usecontainer=container)
    at = content.index(b"\xff\x0a") + 2
    # not small, 30 bits of height, as wide as high
    header = (3 << 1 | 2**29 << 3 | 1 << 33).to_bytes(5, "little")
    with pytest.raises(UnreadableImage, match="536870913x536870913 pixels are more than"):
        read_image(content[:at] + header + content[at + 5 :], channels=3)


def test_damaged_boxes_end_the_search() -> None:
    for size in (0, 1, 7, 2**32 - 1):
        content = jpeg2000()
        at = content.index(b"jp2h") - 4
        assert set(boxes.metadata(BytesIO(content[:at] + size.to_bytes(4) + content[at + 4 :]), 0)) <= {"icc_profile"}
