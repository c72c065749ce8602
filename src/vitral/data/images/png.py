"""PNG files that Pillow reads otherwise than they mean: `sBIT`, and transparent colours of other depths than 8 bits."""

from collections.abc import Iterable, Iterator, Mapping
from io import BufferedReader, BytesIO
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, PngImagePlugin

from vitral.data.images.colour import gamma_table
from vitral.data.images.png_data import LOW, SIGNATURE, deep_rows
from vitral.data.images.values import parts, to_8_bits
from vitral.data.notes import note_first

__all__ = ["correct_values", "grey_levels", "is_decoded_in_halves", "is_deep", "other_gamma"]

GREYS = {"L;2": 85, "L;4": 17}
"""What Pillow multiplies shades with, but not the transparent shade."""

SRGB_PRIMARIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
"""Pillow's `chromaticity`: of white, red, green and blue."""
PRIMARIES = "its primaries (cHRM) other than sRGB's are ignored"

SMALL = 2**20
"""Pixels up to which colours are decoded once, not again to scale them."""

MAX_WIDTH = 2**18
"""Pixels of a row up to which some rows are decoded at a time."""

SRGB_GAMMA, SAME_GAMMA = 2.2, 0.05
"""The exponent that programs write for sRGB, and the relative difference that counts as rounding."""

Stream = BytesIO | BufferedReader


def correct_values(image: Image.Image, stream: Stream, start: int, *, name: str) -> Image.Image:
    """An opened PNG with the transparent colour and the brightness that the file means.

    Args:
        image: not loaded yet.
        stream: the file.
        start: where the image begins in it.
        name: the image's name in notes.
    """
    if not isinstance(image, PngImagePlugin.PngImageFile) or not image.tile:
        return image
    _note_primaries(image, name)
    rawmode = str(image.tile[0][3])
    key = image.info.get("transparency")
    if rawmode in GREYS and key is not None:
        image.info["transparency"] = key * GREYS[rawmode]
    if image.mode.startswith("I;16"):
        image.info["bits"] = _significant_bits(stream, start)
    if not is_deep(image, stream, start):
        return image
    bits, low = _significant_bits(stream, start), None
    if is_decoded_in_halves(image):
        image.load()
        low = _low_bytes(stream, start, LOW[rawmode])
    else:
        _load_metadata(image, stream)

    def rows() -> Iterator[tuple[int, np.ndarray]]:
        if low is not None:
            return _joined(image, low)
        return deep_rows(stream, start, rawmode=rawmode, size=image.size)

    kept = list(rows()) if image.width * image.height <= SMALL else None
    white = _white_level((values[:, :, :3] for _, values in kept or rows()), bits)
    return _corrected(image, kept or rows(), name=name, white=white or 65535)


def _note_primaries(image: Image.Image, name: str) -> None:
    primaries = image.info.get("chromaticity")
    known = "icc_profile" in image.info or "srgb" in image.info or image.mode in ("1", "L", "LA")
    if primaries and not known and not np.allclose(primaries, SRGB_PRIMARIES, atol=0.005):
        note_first(PRIMARIES, name)


def _load_metadata(image: PngImagePlugin.PngImageFile, stream: Stream) -> None:
    """Reads the chunks after the pixels, for which Pillow need not decode these."""
    size, image._size = image.size, (1, 1)
    image.load_prepare()
    image._size = size
    stream.seek(image.tile[0].offset)
    image.load_end()


def _corrected(image: Image.Image, rows: Iterable[tuple[int, np.ndarray]], *, name: str, white: int) -> Image.Image:
    """The 8-bit colours of 16-bit values that come in parts, with the number of the first row of each."""
    key, gamma = image.info.get("transparency"), _gamma_of(image)
    table = None if gamma is None else gamma_table(gamma, white=white)
    mode = "RGB" if key is None and image.mode == "RGB" else "RGBA"
    corrected = Image.new(mode, image.size)
    for top, values in rows:
        shape = (*values.shape[:2], len(mode))
        pixels = np.empty(shape, np.uint8)
        filled = pixels[:, :, : values.shape[2]]
        filled[...] = to_8_bits(values, name=name, white=white)
        if table is not None:
            pixels[:, :, :3] = table[values[:, :, :3]]
        if key is not None:
            pixels[:, :, 3] = np.where((values[:, :, :3] == key).all(axis=2), 0, 255)
        corrected.paste(Image.fromarray(pixels), (0, top))
    corrected.format = image.format
    corrected.info = {field: value for field, value in image.info.items() if field not in ("transparency", "gamma")}
    return corrected


def is_deep(image: Image.Image, stream: Stream, start: int) -> bool:
    """Whether the low bytes of colours of 16 bits matter. Arguments as in `correct_values`."""
    rawmode = image.tile[0][3] if isinstance(image, PngImagePlugin.PngImageFile) and image.tile else None
    if rawmode not in LOW:
        return False
    return "transparency" in image.info or _gamma_of(image) is not None or _significant_bits(stream, start) < 16


def is_decoded_in_halves(image: Image.Image) -> bool:
    """Whether Pillow decodes all high bytes and then all low ones: what comes in passes, or in huge rows."""
    return bool(image.info.get("interlace")) or image.width > MAX_WIDTH


def grey_levels(image: Image.Image, *, name: str) -> UInt8[np.ndarray, "h w"]:
    """The 8-bit greys of 16-bit ones; a transparent value becomes white.

    Args:
        image: of mode "I;16".
        name: the image's name in notes.
    """
    bits, hole, gamma = image.info.get("bits", 16), image.info.get("transparency"), _gamma_of(image)
    white = white_level(image, bits) if bits < 16 else None
    grey = to_8_bits(image, name=name, white=white, hole=hole)
    if gamma is not None:
        table = gamma_table(gamma, white=white or 65535)
        for top, values in parts(image):
            grey[top : top + len(values)] = np.where(values == hole, 255, table[values])
    return grey


def _gamma_of(image: Image.Image) -> float | None:
    """As `other_gamma`, unless a colour profile counts."""
    return None if "icc_profile" in image.info else other_gamma(image.info)


def other_gamma(info: Mapping[Any, Any]) -> float | None:
    """The exponent of `gAMA` if it differs from that of sRGB, and nothing else in the file says the colour space.

    Args:
        info: Pillow's, of the image.
    """
    gamma = info.get("gamma")
    if not gamma or "srgb" in info or abs(gamma * SRGB_GAMMA - 1) < SAME_GAMMA:
        return None
    return gamma


def white_level(values: np.ndarray | Image.Image, bits: int) -> int | None:
    """The value of white of 16-bit values of which `bits` are significant; None: 65535.

    The standard wants values scaled to 16 bits, so that the lowest bits of dark ones are zero. Cameras often store them
    as they are.
    """
    return _white_level((part for _, part in parts(values)), bits)


def _white_level(values: Iterable[np.ndarray], bits: int) -> int | None:
    """The same of values that come in parts."""
    if bits == 16:
        return None
    white, unscaled = 2**bits - 1, False
    for part in values:
        if part.max(initial=0) > white:
            return None
        unscaled = unscaled or bool((part & (2 ** (16 - bits) - 1)).any())
    return white if unscaled else None


def _significant_bits(stream: Stream, start: int) -> int:
    """The largest number of bits that `sBIT` gives for a colour; 16 if the file does not say."""
    stream.seek(start + SIGNATURE)
    while len(head := stream.read(8)) == 8 and head[4:] != b"IDAT":
        size = int.from_bytes(head[:4])
        if head[4:] == b"sBIT":
            return max(bits for bits in (*stream.read(min(size, 4))[:3], 1)) if size else 16
        stream.seek(size + 4, 1)
    return 16


def _low_bytes(stream: Stream, start: int, rawmode: str) -> Image.Image:
    stream.seek(start)
    with PngImagePlugin.PngImageFile(stream) as image:
        image.tile = [tile._replace(args=rawmode) for tile in image.tile]
        image.load()
        return image


def _joined(high: Image.Image, low: Image.Image) -> Iterator[tuple[int, np.ndarray]]:
    """Values of some rows at a time, and the number of the first of them."""
    for (top, upper), (_, lower) in zip(parts(high), parts(low), strict=True):
        yield top, upper.astype(np.uint16) << 8 | (lower if upper.shape == lower.shape else _with_alpha(lower))


def _with_alpha(values: np.ndarray) -> np.ndarray:
    return np.dstack([values, np.full(values.shape[:2], 255, np.uint8)])
