"""TIFF files of kinds that Pillow decodes to other values, or not at all."""

from collections.abc import Mapping
from io import BufferedReader, BytesIO
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

__all__ = ["correct_values", "is_decoded_wrongly", "kind", "unsupported_kind"]

BITS, PHOTOMETRIC, SAMPLES, PLANAR, SAMPLE_FORMAT = 258, 262, 277, 284, 339
"""Numbers of tags."""
FORMATS = {1: "unsigned integers", 2: "signed integers", 3: "floats", 5: "complex integers", 6: "complex numbers"}
"""Values of the tag SampleFormat."""
WHITE_IS_ZERO, SIGNED, SEPARATE = 0, 2, 2
"""Values of PHOTOMETRIC, SAMPLE_FORMAT and PLANAR."""

Tags = Mapping[int, Any]


def _first(tags: Tags, number: int, default: int) -> int:
    value = tags.get(number, default)
    return int(value[0] if isinstance(value, tuple) else value)


def kind(tags: Tags) -> str:
    """What a file holds, such as `3 bands of 16-bit unsigned integers in separate planes`."""
    bands, bits = _first(tags, SAMPLES, 1), _first(tags, BITS, 1)
    values = FORMATS.get(_first(tags, SAMPLE_FORMAT, 1), "values")
    planes = " in separate planes" if bands > 1 and _first(tags, PLANAR, 1) == SEPARATE else ""
    return f"{bands} band{'s' if bands > 1 else ''} of {bits}-bit {values}{planes}"


def unsupported_kind(stream: BytesIO | BufferedReader, start: int) -> str | None:
    """The kind of a TIFF that Pillow does not identify; None if it is no TIFF, or its tags are damaged.

    Args:
        stream: the file.
        start: where the image begins in it.
    """
    stream.seek(start)
    header = stream.read(8)
    if header[:4] not in TiffImagePlugin.PREFIXES:
        return None
    tags = TiffImagePlugin.ImageFileDirectory_v2(header)
    stream.seek(-1, 2)
    stream.read(1)  # Pillow hides errors of the machine, and this raises them
    stream.seek(start)
    part = BytesIO(stream.read())
    part.seek(tags.next)
    tags.load(part)
    return kind(tags) if BITS in tags and tags.get(SAMPLES, 1) else None


def is_decoded_wrongly(tags: Tags) -> bool:
    """Whether Pillow gives other pixels: it reads planes of more than 8 bits as if they were interleaved."""
    return _first(tags, PLANAR, 1) == SEPARATE and _first(tags, SAMPLES, 1) > 1 and _first(tags, BITS, 1) > 8


def correct_values(image: Image.Image) -> Image.Image:
    """A decoded grey image with the values that its tags mean.

    Pillow reads signed bytes and unsigned 32-bit integers with the other sign, and inverts white-is-zero images only up
    to 8 bits.
    """
    tags: Tags = getattr(image, "tag_v2", {})
    bits, values = _first(tags, BITS, 1), _first(tags, SAMPLE_FORMAT, 1)
    if image.mode == "L" and bits == 8 and values == SIGNED:
        return _with_info(Image.fromarray(np.asarray(image) ^ np.uint8(128)), image)
    if image.mode == "I" and bits == 32 and values != SIGNED:
        unsigned = np.asarray(image).view(np.uint32).astype(np.float64)
        # 16 bits are enough for what is shown, and keep the order of the values
        top = unsigned.max()
        scaled = unsigned if top <= 65535 else unsigned * (65535 / top)
        image = _with_info(Image.fromarray(scaled.astype(np.uint16)), image)
    if image.mode.startswith("I;16") and bits == 16 and _first(tags, PHOTOMETRIC, 1) == WHITE_IS_ZERO:
        return _with_info(Image.fromarray(65535 - np.asarray(image).astype(np.uint16)), image)
    return image


def _with_info(image: Image.Image, original: Image.Image) -> Image.Image:
    image.info = dict(original.info)
    return image
