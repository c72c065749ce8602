"""What files say of themselves."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import icc_profiles
from picture_files import COLOUR, GREY, deep, exif, packed, picture_files, png_file
from vitral.data.images.decode import UnreadableImage
from vitral.data.images.facts import ImageFacts, read_facts

FILES = {file.name: file.content for file in picture_files()}
PLAIN = dict(size=(64, 32), orientation=1, profile="", several=False, bits=None)


def encoded(form: str, **options: object) -> bytes:
    stream = BytesIO()
    Image.fromarray(COLOUR).save(stream, form, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("RGB-exif-6.jpg", dict(format="JPEG", mode="RGB", size=(32, 64), orientation=6)),
        ("CMYK-exif-1.jpg", dict(format="JPEG", mode="CMYK")),
        ("lossless-xmp-3.webp", dict(format="WebP", mode="RGB", orientation=3)),
        ("animated.gif", dict(format="GIF", mode="P", several=True)),
        ("pages.tif", dict(format="TIFF", mode="RGB", several=True)),
        ("grey-16-1.png", dict(format="PNG", mode="I;16", bits=16)),
        ("colour-16-1.png", dict(format="PNG", mode="RGB", bits=16)),
        ("0-low-10-of-16.png", dict(format="PNG", mode="I;16")),
        ("grey-max-12.tif", dict(format="TIFF", mode="I;16")),
        ("u2-rgb-planar-zlib-little.tif", dict(format="TIFF", mode="RGB")),
        ("exif-6.jp2", dict(format="JPEG 2000", mode="RGB", size=(32, 64), orientation=6)),
    ],
)
def test_facts(name: str, facts: dict, tmp_path: Path) -> None:
    expected = ImageFacts(**PLAIN | facts)
    (tmp_path / name).write_bytes(FILES[name])
    for stored in (FILES[name], tmp_path / name):
        assert read_facts(stored, name=name) == expected
    assert not expected.is_dark


def test_a_profile_has_a_name() -> None:
    content = encoded("PNG", icc_profile=icc_profiles.adobe_rgb(), exif=exif(8))
    facts = read_facts(content, name="x")
    assert (facts.profile, facts.orientation) == ("Adobe RGB (1998)", 8)


@pytest.mark.parametrize("depth", [10, 12, 14])
def test_fewer_bits_than_16_that_nothing_declares(depth: int) -> None:
    grey = png_file(packed(deep(GREY, depth), 16), 64, depth=16, kind=0)
    colour = png_file(packed(deep(COLOUR, depth), 16), 64, depth=16, kind=2)
    for content in (grey, colour):
        facts = read_facts(content, name="x")
        assert facts.bits == depth
        assert facts.is_dark


def test_pixels_in_memory_and_files_that_cannot_be_read() -> None:
    facts = read_facts(Image.fromarray(np.zeros((4, 5), np.uint16)), name="x")
    assert (facts.format, facts.mode, facts.size, facts.bits) == ("", "I;16", (5, 4), 0)
    with pytest.raises(UnreadableImage, match="x cannot be read as an image"):
        read_facts(b"no image", name="x")
