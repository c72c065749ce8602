"""From an image file to what a model takes and what people see of it, in this process or in confined ones."""

from functools import partial
from io import BufferedReader, BytesIO

import numpy as np
from PIL import Image

from vitral.data.images.preprocess import Preprocessing
from vitral.data.isolation.pool import DecoderPool
from vitral.inspection.look import visible_part

__all__ = ["isolated_decoders", "read_arrays"]

PICTURE_PIXELS = 640
"""Longer side of a picture of attention."""

PIXEL_ART = 64
"""Images with a longer side of at most this many pixels are enlarged without smoothing."""


def isolated_decoders(preprocessing: Preprocessing, *, processes: int) -> DecoderPool:
    """Confined processes that read images as `read_arrays` does.

    Raises:
        UserError: the system is not Linux.
    """
    return DecoderPool(
        partial(read_arrays, preprocessing),
        shape=preprocessing.shape,
        dtype=preprocessing.dtype,
        processes=processes,
    )


def read_arrays(
    preprocessing: Preprocessing, file: BufferedReader | BytesIO, name: str, drawn: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """The pixels, and if it is drawn, the part of the image that the model gets."""
    image = preprocessing.read(file, name=name)
    picture = np.asarray(_scaled(visible_part(image, preprocessing))) if drawn else None
    return preprocessing.pixels(image), picture


def _scaled(picture: Image.Image) -> Image.Image:
    longer = max(picture.size)
    scale = PICTURE_PIXELS / longer
    size = max(round(scale * picture.width), 1), max(round(scale * picture.height), 1)
    return picture.resize(size, Image.Resampling.NEAREST if longer <= PIXEL_ART else Image.Resampling.LANCZOS)
