"""PNG files that Pillow reads otherwise than they mean: `sBIT`, and transparent colours of other depths than 8 bits."""

from collections.abc import Mapping
from io import BufferedReader, BytesIO
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from vitral.data.images.values import to_8_bits

__all__ = ["correct_values", "other_gamma", "white_level"]

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
    rawmode = image.tile[0][3]
    key = image.info.get("transparency")
    if rawmode in GREYS and key is not None:
        image.info["transparency"] = key * GREYS[rawmode]
    if image.mode.startswith("I;16"):
        image.info["bits"] = _significant_bits(stream, start)
    if rawmode not in DEEP:
        return image
    bits = _significant_bits(stream, start)
    if bits == 16 and key is None:
        return image
    # Pillow decodes to 8 bits only, so once for each half of a value
    values = np.asarray(image).astype(np.uint16) << 8 | _low_bytes(stream, start, DEEP[rawmode])
    white = white_level(values[:, :, :3], bits) or 65535
    colours = to_8_bits(values[:, :, :3], name=name, white=white)
    if key is not None:
        alpha = np.where((values == key).all(axis=2), 0, 255).astype(np.uint8)
    else:
        alpha = to_8_bits(values[:, :, 3:], name=name, white=white) if values.shape[2] == 4 else None
    pixels = colours if alpha is None else np.dstack([colours, alpha])
    corrected = Image.fromarray(pixels)
    corrected.format = image.format
    corrected.info = {field: value for field, value in image.info.items() if field != "transparency"}
    return corrected


def other_gamma(info: Mapping[Any, Any]) -> float | None:
    """The exponent of `gAMA` if it differs from that of sRGB, and nothing else in the file says the colour space.

    Args:
        info: Pillow's, of the image.
    """
    gamma = info.get("gamma")
    if not gamma or "srgb" in info or abs(gamma * SRGB_GAMMA - 1) < SAME_GAMMA:
        return None
    return gamma


def white_level(values: np.ndarray, bits: int) -> int | None:
    """The value of white of 16-bit values of which `bits` are significant; None: 65535.

    The standard wants values scaled to 16 bits, so that the lowest bits of dark ones are zero. Cameras often store them
    as they are.
    """
    white = 2**bits - 1
    unscaled = bits < 16 and values.max(initial=0) <= white and (values & (2 ** (16 - bits) - 1)).any()
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


def _low_bytes(stream: Stream, start: int, rawmode: str) -> np.ndarray:
    stream.seek(start)
    with PngImagePlugin.PngImageFile(stream) as image:
        image.tile = [tile._replace(args=rawmode) for tile in image.tile]
        return np.asarray(image).astype(np.uint16)
