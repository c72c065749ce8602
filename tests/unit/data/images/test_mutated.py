"""Damaged files of ten formats: each is read or refused in one sentence, fast and in little memory."""

import resource
import time
from collections.abc import Callable

import numpy as np
import pytest

from picture_files import picture_files
from vitral.data.images.decode import UnreadableImage, read_image
from vitral.data.images.jpeg import LazyJpeg

FILES = (
    *("RGB-exif-6.jpg", "CMYK-exif-5.jpg", "colour-16-transparent-6.png", "palette-4-alpha-8.png"),
    *("alpha-exif-8.webp", "lossy-xmp-2.webp", "u1-rgb-interleaved-lzw-little.tif", "f4-grey-None-big.tif"),
    *("u2-rgb-planar-zlib-tiled-big.tif", "RGB-jpeg.tif", "animated.gif", "colour.bmp", "palette.bmp"),
    *("exif-6.avif", "alpha-3.avif", "exif-6.jp2", "codestream.j2k", "exif-6.heic", "colour.jxl"),
)
MUTATIONS = 250
"""Of each file."""
HEADER = 200
"""Bytes at the beginning among which are the sizes."""
EXTREMES = (0, 1, 0xFF, 0x7FFF, 60_000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF)
MOST_SECONDS, MOST_MEMORY = 5, 2**30


def flip_bits(content: bytearray, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(1, 6))):
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))


def truncate(content: bytearray, rng: np.random.Generator) -> None:
    del content[int(rng.integers(1, len(content))) :]


def change_a_number(content: bytearray, rng: np.random.Generator) -> None:
    """Mostly a size in the header."""
    size, order = int(rng.choice([2, 4])), "little" if rng.random() < 0.5 else "big"
    at = int(rng.integers(min(len(content) - size, HEADER)))
    content[at : at + size] = (int(rng.choice(EXTREMES)) % 256**size).to_bytes(size, order)


def swap_chunks(content: bytearray, rng: np.random.Generator) -> None:
    (one, other), size = rng.integers(0, len(content), 2).tolist(), int(rng.integers(1, 33))
    content[one : one + size], content[other : other + size] = content[other : other + size], content[one : one + size]


def repeat_a_chunk(content: bytearray, rng: np.random.Generator) -> None:
    at, size = int(rng.integers(len(content))), int(rng.integers(1, 65))
    content[at:at] = content[at : at + size]


WAYS: tuple[Callable[[bytearray, np.random.Generator], None], ...] = (
    *(flip_bits, truncate, change_a_number, swap_chunks, repeat_a_chunk),
)


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    return {file.name: file.content for file in picture_files()}


def peak_memory() -> int:
    """Bytes that this process has used at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def outcome(content: bytes) -> str | None:
    """The sentence that refuses a file; None: it is read."""
    try:
        read_image(content, channels=3)
    except UnreadableImage as error:
        return str(error)
    return None


def test_there_are_enough_files() -> None:
    assert len(FILES) * MUTATIONS >= 2000


@pytest.mark.parametrize("name", FILES)
def test_damaged_files(name: str, contents: dict[str, bytes], capfd: pytest.CaptureFixture[str]) -> None:
    before, refused = peak_memory(), []
    for number in range(MUTATIONS):
        content = bytearray(contents[name])
        WAYS[number % len(WAYS)](content, np.random.default_rng([number, len(name)]))
        start = time.perf_counter()
        sentence = outcome(bytes(content))
        if (jpeg := LazyJpeg.open(bytes(content))) is not None:
            jpeg.crop((0.0, 0.0, 1.0, 1.0), image_size=(8, 8), interpolation="bilinear")
        assert time.perf_counter() - start < MOST_SECONDS, number
        assert sentence is None or (sentence.startswith("the image cannot be read as an image: ")), sentence
        assert sentence is None or "\n" not in sentence
        refused.append(sentence is not None)
    assert 0 < sum(refused) < MUTATIONS
    assert peak_memory() - before < MOST_MEMORY
    assert capfd.readouterr() == ("", "")
