"""Reads uploaded images for a model, and draws attention over them."""

import hashlib
import time
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from vitral.data.images.errors import TooLarge, UnreadableImage
from vitral.data.images.formats import HEADER_BYTES, foreign_format
from vitral.data.images.preprocess import Preprocessing
from vitral.data.isolation.pool import DecoderPool
from vitral.inspection.picture import overlay_rollout
from vitral.serve.batching import DeadlinePassed
from vitral.serve.decoding import read_arrays
from vitral.serve.problems import Problem
from vitral.serve.uploads import Upload

__all__ = ["ReadImage", "draw", "read_upload"]


@dataclass(frozen=True, kw_only=True)
class ReadImage:
    """An image that was read."""

    sha256: str
    """Of the bytes that were read."""
    pixels: np.ndarray
    """Shape (h w c)."""
    picture: Image.Image | None
    """The part of the image that the model gets, at the size of a picture of attention; None if it is not drawn."""


def read_upload(
    upload: Upload,
    preprocessing: Preprocessing,
    *,
    deadline: float,
    drawn: bool,
    decoders: DecoderPool | None = None,
) -> ReadImage:
    """Reads an image as preprocessing does.

    Args:
        upload: the image.
        preprocessing: of the model.
        deadline: reading of `time.monotonic()`.
        drawn: whether attention will be drawn over it.
        decoders: confined processes that read it; None: this process does.

    Raises:
        Problem: it cannot be read.
        DeadlinePassed: it is too late to read it.
    """
    if time.monotonic() > deadline:
        raise DeadlinePassed
    try:
        if decoders is None:
            pixels, picture = read_arrays(preprocessing, BytesIO(upload.content), upload.name, drawn)
        else:
            decoded = decoders.decode(upload.content, name=upload.name, drawn=drawn, end=deadline)
            pixels, picture = decoded.pixels, decoded.picture
    except UnreadableImage as error:
        raise _problem(upload, error) from None
    except TimeoutError:
        raise DeadlinePassed from None
    return ReadImage(
        sha256=hashlib.sha256(upload.content).hexdigest(),
        pixels=pixels,
        picture=None if picture is None else Image.fromarray(picture),
    )


def draw(picture: Image.Image, rollout: Tensor) -> bytes:
    """A PNG of a picture, darkened where the attention rollout is low."""
    stream = BytesIO()
    Image.fromarray(overlay_rollout(picture, rollout)).save(stream, "PNG")
    return stream.getvalue()


def _problem(upload: Upload, error: UnreadableImage) -> Problem:
    """The answer to an image that cannot be read."""
    if foreign_format(upload.content[:HEADER_BYTES]) or isinstance(error.__cause__, UnidentifiedImageError):
        return Problem(415, str(error))
    if isinstance(error.__cause__, TooLarge | Image.DecompressionBombError):
        return Problem(413, f"{upload.name} takes more pixels or memory than the service allows: send a smaller image")
    return Problem(400, str(error))
