"""Pixel values of more than 8 bits, and floats, as 8 bits."""

import numpy as np
from jaxtyping import UInt8

from vitral.data.images.errors import NotRead
from vitral.data.notes import note_first

__all__ = ["to_8_bits"]

ROWS = 2**20
"""Values that are scaled at a time, so that large images need little memory."""

STRETCHED = "its values fit no usual range (0 to 1, 255 or 65535), so each such image is stretched to its own extremes"


def to_8_bits(values: np.ndarray, *, name: str, white: int | None = None) -> UInt8[np.ndarray, "..."]:
    """Scales values to 0..255.

    Args:
        values: integers or floats, the first axis rows.
        name: the image's name in notes.
        white: the value that is white, black being 0, as the file says; None: 255 for bytes, 127 for signed ones (black
            is -128), 65535 for integers in 0..65535, 1 or 255 for floats in that range. Any other range is stretched
            from its minimum to its maximum (that of unsigned integers from 0), with a note.

    Raises:
        NotRead: some values are not finite.
    """
    if values.dtype == np.uint8 and white is None:
        return values
    low, high = _range(values, name) if white is None else (0, white)
    scaled = np.empty(values.shape, np.uint8)
    rows = max(1, ROWS * len(values) // max(1, values.size))
    for start in range(0, len(values), rows):
        part = values[start : start + rows].astype(np.float64)
        scaled[start : start + rows] = np.rint((part - low) * 255 / ((high - low) or 1)).clip(0, 255)
    return scaled


def _range(values: np.ndarray, name: str) -> tuple[float, float]:
    """The values that are black and white."""
    low, high = float(values.min()), float(values.max())
    # extremes are not finite if any value is not: NaN spreads
    if not np.isfinite([low, high]).all():
        raise NotRead("some of its values are not finite")
    if values.dtype == np.int8:
        return -128.0, 127.0
    floats = values.dtype.kind == "f"
    if low >= 0 and high <= (255 if floats else 65535):
        return 0.0, (1.0 if high <= 1 else 255.0) if floats else 65535.0
    note_first(STRETCHED, name)
    return min(low, 0.0) if values.dtype.kind == "u" else low, high
