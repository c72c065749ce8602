"""TIFF files: the values that their tags mean, or a refusal that says what the file holds."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from vitral.data.images.decode import UnreadableImage, read_image

GREY = np.tile(np.linspace(0, 255, 32).round().astype(np.uint8), (4, 1))
"""From black to white."""
BANDS = {"photometric": "minisblack", "planarconfig": "contig"}
COLOUR = np.stack([GREY, GREY[:, ::-1], np.full_like(GREY, 40)], axis=2)


def encoded(values: np.ndarray, **options: Any) -> bytes:
    stream = BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


def read(content: bytes) -> np.ndarray:
    return np.asarray(read_image(content, channels=3))


@pytest.mark.parametrize(
    ("values", "options"),
    [
        pytest.param(GREY, {}, id="8 bits"),
        pytest.param(255 - GREY, {"photometric": "miniswhite"}, id="8 bits, white is zero"),
        pytest.param(GREY.astype(np.uint16) * 257, {}, id="16 bits"),
        pytest.param(65535 - GREY.astype(np.uint16) * 257, {"photometric": "miniswhite"}, id="16 bits, white is zero"),
        pytest.param((GREY.astype(np.int16) - 128).astype(np.int8), {}, id="signed bytes"),
        pytest.param(GREY.astype(np.float32) / 255, {}, id="floats"),
        pytest.param(GREY.astype(np.uint32) * 16_843_009, {}, id="32 bits"),
        pytest.param(GREY.astype(np.int32) * 1000 - 100_000, {}, id="signed 32 bits"),
    ],
)
def test_grey_values(values: np.ndarray, options: dict[str, Any]) -> None:
    assert np.array_equal(read(encoded(values, **options)), np.repeat(GREY[:, :, None], 3, axis=2))


@pytest.mark.parametrize("extra", [0, 1, 2])
def test_colour_of_8_bits_with_bands_that_are_no_alpha(extra: int) -> None:
    values = np.concatenate([COLOUR, np.full((*GREY.shape, extra), 99, np.uint8)], axis=2)
    options: dict[str, Any] = {"extrasamples": ["unspecified"] * extra} if extra else {}
    content = encoded(values, photometric="rgb", planarconfig="contig", **options)
    assert np.array_equal(read(content), COLOUR)


def test_colour_of_8_bits_in_separate_planes() -> None:
    assert np.array_equal(read(encoded(np.moveaxis(COLOUR, 2, 0), photometric="rgb", planarconfig="separate")), COLOUR)


def test_colour_of_16_bits() -> None:
    assert np.array_equal(read(encoded(COLOUR.astype(np.uint16) * 257, photometric="rgb")), COLOUR)


@pytest.mark.parametrize(
    ("values", "options", "kind"),
    [
        (GREY.astype(np.complex64), {}, "1 band of 64-bit complex numbers"),
        (
            COLOUR[:, :, :2],
            BANDS,
            "2 bands of 8-bit unsigned integers",
        ),
        (
            np.tile(COLOUR, (1, 1, 5))[:, :, :13],
            BANDS,
            "13 bands of 8-bit unsigned integers",
        ),
    ],
)
def test_kinds_that_are_not_read_are_named(
    values: np.ndarray, options: dict[str, Any], kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UnreadableImage, match=f"it is a TIFF of {kind}, which Vitral does not read") as caught:
        read(encoded(values, **options))
    assert "damaged" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_damaged_directory_is_damage() -> None:
    content = bytearray(encoded(GREY))
    content[4:8] = (10**6).to_bytes(4, "little")
    with pytest.raises(UnreadableImage, match="its header is damaged"):
        read(bytes(content))


XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>"""


@pytest.mark.parametrize(
    ("form", "options"), [("JPEG", {"xmp": XMP}), ("WEBP", {"xmp": XMP}), ("TIFF", {"tiffinfo": {700: XMP}})]
)
def test_orientation_in_xmp(form: str, options: dict[str, Any]) -> None:
    stream = BytesIO()
    Image.fromarray(COLOUR).save(stream, form, **options)
    assert read_image(stream.getvalue(), channels=3).size == (4, 32)
