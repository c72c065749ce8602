"""16-bit colours of PNG files: every value counts, and large ones are read some rows at a time."""

import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from picture_files import png_chunk, png_file
from vitral.data.images import png, png_data
from vitral.data.images.decode import UnreadableImage, read_image
from vitral.data.images.png_data import deep_rows

WIDTH, HEIGHT = 31, 50
KINDS = {3: ("RGB;16B", 2), 4: ("RGBA;16B", 6)}
"""Pillow's raw mode and PNG's colour type by the number of channels."""


def stored(values: np.ndarray, chunks: bytes = b"") -> bytes:
    rows = [row.astype(">u2").tobytes() for row in values]
    return png_file(rows, values.shape[1], depth=16, kind=KINDS[values.shape[2]][1], chunks=chunks)


@pytest.mark.parametrize("channels", KINDS)
@pytest.mark.parametrize("pixels", [1, 7 * WIDTH, 10**6])
def test_rows(channels: int, pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(png_data, "PIXELS", pixels)
    values = np.random.default_rng(0).integers(0, 2**16, (HEIGHT, WIDTH, channels)).astype(np.uint16)
    rows = deep_rows(BytesIO(stored(values)), 0, rawmode=KINDS[channels][0], size=(WIDTH, HEIGHT))
    read = list(rows)
    assert np.array_equal(np.concatenate([part for _, part in read]), values)
    assert [top for top, _ in read] == list(range(0, HEIGHT, max(1, pixels // WIDTH)))


@pytest.mark.parametrize("filtered", [1, 2, 3, 4])
def test_filtered_rows(filtered: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are stored as differences, also to those of the part before; decoded in halves they are the same."""
    monkeypatch.setattr(png_data, "PIXELS", 7 * WIDTH)
    monkeypatch.setattr(png, "SMALL", 0)
    rng = np.random.default_rng(0)
    content = stored(rng.integers(0, 2**12, (HEIGHT, WIDTH, 3)), png_chunk(b"sBIT", bytes((12,) * 3)))
    rows = [bytes([filtered]) + bytes(rng.integers(0, 256, 6 * WIDTH, np.uint8)) for _ in range(HEIGHT)]
    content = with_rows(content, b"".join(rows))
    in_parts = np.asarray(read_image(content, channels=3))
    monkeypatch.setattr(png, "MAX_WIDTH", 0)
    assert np.array_equal(np.asarray(read_image(content, channels=3)), in_parts)


def with_rows(content: bytes, rows: bytes) -> bytes:
    start = content.index(b"IDAT") - 4
    return content[:start] + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")


def test_too_few_rows() -> None:
    content = stored(np.ones((HEIGHT, WIDTH, 3), np.uint16), png_chunk(b"tRNS", bytes(6)))
    with pytest.raises(UnreadableImage, match="damaged or truncated"):
        read_image(with_rows(content, bytes((6 * WIDTH + 1) * (HEIGHT - 1))), channels=3)


@pytest.mark.parametrize("channels", [1, 3])
def test_dark_colours_of_linear_light(channels: int) -> None:
    """Eight bits of them are too few."""
    light = np.linspace(0, 0.02, WIDTH)
    values = np.rint(65535 * light).astype(np.uint16)[None, :, None].repeat(HEIGHT, 0).repeat(3, 2)
    chunk = png_chunk(b"gAMA", (100_000).to_bytes(4))
    rows = [row[:, :channels].astype(">u2").tobytes() for row in values]
    content = png_file(rows, WIDTH, depth=16, kind=2 if channels == 3 else 0, chunks=chunk)
    levels = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(np.asarray(read_image(content, channels=3))[0, :, 0] - levels).max() <= 1


@pytest.mark.usefixtures("fresh_notes")
@pytest.mark.parametrize(("red", "noted"), [(64_000, False), (68_000, True)])
def test_other_primaries_are_noted(red: int, noted: bool, caplog: pytest.LogCaptureFixture) -> None:
    places = (31_270, 32_900, red, 33_000, 30_000, 60_000, 15_000, 6_000)
    chunk = png_chunk(b"cHRM", b"".join(place.to_bytes(4) for place in places))
    read_image(png_file([bytes(24)] * 8, 8, depth=8, kind=2, chunks=chunk), channels=3, name="a.png")
    assert ("a.png: its primaries (cHRM)" in caplog.text) == noted


def test_metadata_after_the_pixels() -> None:
    """Such as its orientation, here a quarter turn."""
    exif = Image.Exif()
    exif[0x0112] = 6
    content = stored(np.full((HEIGHT, WIDTH, 3), 4000, np.uint16), png_chunk(b"sBIT", bytes((12,) * 3)))
    end = content.index(b"IEND") - 4
    content = content[:end] + png_chunk(b"eXIf", exif.tobytes()[6:]) + content[end:]
    assert read_image(content, channels=3).size == (HEIGHT, WIDTH)
