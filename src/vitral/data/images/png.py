"""PNG files that Pillow reads otherwise than they mean: `sBIT`, and transparent colours of other depths than 8 bits."""

from collections.abc import Callable, Iterator, Mapping
from io import BufferedReader, BytesIO
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from vitral.data.images import strips
from vitral.data.images.values import parts, to_8_bits

__all__ = ["correct_values", "is_deep", "other_gamma", "white_level"]

SIGNATURE = 8
"""Bytes before the first chunk."""

GREYS = {"L;2": 85, "L;4": 17}
"""What Pillow multiplies shades with, but not the transparent shade."""

DEEP = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}
"""Raw modes with which Pillow reads the high byte of each value, and those with which it reads the low byte."""

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
    rawmode = str(image.tile[0][3])
    key = image.info.get("transparency")
    if rawmode in GREYS and key is not None:
        image.info["transparency"] = key * GREYS[rawmode]
    if image.mode.startswith("I;16"):
        image.info["bits"] = _significant_bits(stream, start)
    if not is_deep(image, stream, start):
        return image
    # Pillow decodes to 8 bits only, so once for each half of a value
    image.load()
    low, bits = _low_bytes(stream, start, DEEP[rawmode]), _significant_bits(stream, start)
    white = _white_level(lambda: (values[:, :, :3] for _, values in _joined(image, low)), bits) or 65535
    mode = "RGB" if key is None and image.mode == "RGB" else "RGBA"
    corrected = strips.relabel(image, mode)
    for top, values in _joined(corrected, low):
        pixels = to_8_bits(values[:, :, : len(mode)], name=name, white=white)
        if key is not None:
            pixels[:, :, 3] = np.where((values[:, :, :3] == key).all(axis=2), 0, 255)
        corrected.paste(Image.fromarray(pixels), (0, top))
    corrected.format = image.format
    corrected.info = {field: value for field, value in image.info.items() if field != "transparency"}
    return corrected


def is_deep(image: Image.Image, stream: Stream, start: int) -> bool:
    """Whether the low bytes of colours of 16 bits matter. Arguments as in `correct_values`."""
    rawmode = image.tile[0][3] if isinstance(image, PngImagePlugin.PngImageFile) and image.tile else None
    return rawmode in DEEP and ("transparency" in image.info or _significant_bits(stream, start) < 16)


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
    return _white_level(lambda: (part for _, part in parts(values)), bits)


def _white_level(values: Callable[[], Iterator[np.ndarray]], bits: int) -> int | None:
    """The same of values that come in parts."""
    white = 2**bits - 1
    if bits == 16 or any(part.max(initial=0) > white for part in values()):
        return None
    return white if any((part & (2 ** (16 - bits) - 1)).any() for part in values()) else None


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
