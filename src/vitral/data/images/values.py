"""Pixel values of more than 8 bits, and floats, as 8 bits."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vitral.data.images.errors import NotRead
from vitral.data.notes import note_first

__all__ = ["extremes", "parts", "scale", "to_8_bits", "usual_range"]

ROWS = 2**17
"""Values that are scaled at a time, so that large images need little memory."""

STRETCHED = "its values fit no usual range (0 to 1, 255 or 65535), so each such image is stretched to its own extremes"


def to_8_bits(
    values: np.ndarray | Image.Image,
    *,
    name: str,
    white: int | None = None,
    dtype: np.dtype | None = None,
    hole: int | float | None = None,
) -> UInt8[np.ndarray, "..."]:
    """Scales values to 0..255, a few rows at a time.

    Args:
        values: integers or floats, the first axis rows; or an image of one band.
        name: the image's name in notes.
        white: the value that is white, black being 0, as the file says; None: 255 for bytes, 127 for signed ones (black
            is -128), 65535 for integers in 0..65535, 1 or 255 for floats in that range. Any other range is stretched
            from its minimum to its maximum (that of unsigned integers from 0), with a note.
        dtype: what the bits of an image's values mean; None: what Pillow says.
        hole: a value that becomes white.

    Raises:
        NotRead: some values are not finite.
    """
    if isinstance(values, np.ndarray) and values.dtype == np.uint8 and white is None:
        return values
    low, high = 0.0, float(white or 0)
    if white is None:
        kind = next(parts(values, dtype))[1].dtype
        low, high = usual_range(*extremes(values, dtype), kind=kind, name=name)
    shape = values.shape if isinstance(values, np.ndarray) else (values.height, values.width)
    scaled = np.empty(shape, np.uint8)
    for start, part in parts(values, dtype):
        rows = scaled[start : start + len(part)]
        rows[...] = scale(part, low, high)
        if hole is not None:
            rows[part == hole] = 255
    return scaled


def parts(values: np.ndarray | Image.Image, dtype: np.dtype | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """Rows of values, each part with the number of its first row. Arguments as in `to_8_bits`."""
    if isinstance(values, np.ndarray):
        rows = _rows_per_part(len(values), values.size)
        for start in range(0, len(values), rows):
            yield start, values[start : start + rows]
        return
    width, height = values.size
    rows = _rows_per_part(height, width * height)
    for start in range(0, height, rows):
        part = np.asarray(values.crop((0, start, width, min(height, start + rows))))
        yield start, part if dtype is None else part.view(dtype)


def _rows_per_part(height: int, size: int) -> int:
    return max(1, ROWS * height // max(1, size))


def extremes(values: np.ndarray | Image.Image, dtype: np.dtype | None = None) -> tuple[float, float]:
    """The smallest and the largest of values; NaN if there is one. Arguments as in `to_8_bits`."""
    bounds = [(part.min(), part.max()) for _, part in parts(values, dtype)]
    return float(np.min([low for low, _ in bounds])), float(np.max([high for _, high in bounds]))


def scale(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values as whole numbers from 0 for `low` to 255 for `high`, in float64."""
    floats = (values.astype(np.float64) - low) * 255 / ((high - low) or 1)
    return np.rint(floats, out=floats).clip(0, 255)


def usual_range(low: float, high: float, *, kind: np.dtype, name: str) -> tuple[float, float]:
    """The values that are black and white, as `to_8_bits` says.

    Args:
        low: the smallest value of an image.
        high: the largest.
        kind: of the values.
        name: the image's name in notes.

    Raises:
        NotRead: some values are not finite.
    """
    # extremes are not finite if any value is not: NaN spreads
    if not np.isfinite([low, high]).all():
        raise NotRead("some of its values are not finite")
    if kind == np.int8:
        return -128.0, 127.0
    if low >= 0 and high <= (255 if kind.kind == "f" else 65535):
        return 0.0, (1.0 if high <= 1 else 255.0) if kind.kind == "f" else 65535.0
    note_first(STRETCHED, name)
    return min(low, 0.0) if kind.kind == "u" else low, high
