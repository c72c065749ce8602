"""Decodes crops of JPEGs at a reduced size, for training.

Decoding a JPEG at a half, a quarter or an eighth of its size is cheaper, and so is the resize that follows. Evaluation
does not use this module: it decodes the whole image with Pillow, as other projects do.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import UInt8
from PIL import Image

from vitral.data.images.colour import is_srgb, to_srgb
from vitral.data.images.complete import check_scans
from vitral.data.images.jpeg_header import JpegHeader
from vitral.data.images.limits import max_pixels
from vitral.data.images.memory import reserve

__all__ = ["FILTERS", "LazyJpeg"]

FILTERS = ("bilinear", "bicubic")
"""PyTorch's filters for uint8: equal to Pillow's to one level, and several times as fast."""

SCALES = (8, 4, 2)
"""Factors by which a JPEG can be reduced in decoding."""

BYTES = 7
"""Bytes a pixel: what is decoded, and a crop of it."""

LEFT_OVER = "extraneous bytes before marker 0xd9"
"""What libjpeg says at the end of an image whose last rows it was not asked for, unless it said something before."""

START = b"\xff\xd8\xff"
"""First bytes of a JPEG."""


@dataclass(frozen=True, kw_only=True)
class LazyJpeg:
    """An upright colour JPEG that is not decoded yet."""

    data: bytes
    size: tuple[int, int]
    """Width and height."""
    profile: bytes | None
    """Colour profile; None: its colours are sRGB."""
    name: str
    """For notes."""
    header: JpegHeader

    @classmethod
    def open(cls, stored: Path | bytes | Image.Image, *, name: str = "the image") -> "LazyJpeg | None":
        """Reads the header; None if the image is no JPEG, or is rotated, grey, too large or damaged.

        Args:
            stored: a path, the bytes of a file, or pixels.
            name: the image's name in notes.

        Raises:
            OSError: the file cannot be read.
        """
        data = _bytes(stored)
        if data is None:
            return None
        try:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        except ValueError:
            return None
        size = int(width), int(height)
        if colours != "YCbCr" or size[0] * size[1] > max_pixels():
            return None
        header = JpegHeader.read(data)
        if header is None or not header.upright:
            return None
        profile = header.profile
        if profile is not None and is_srgb(profile):
            profile = None
        return cls(data=data, size=size, profile=profile, name=name, header=header)

    def crop(
        self, box: tuple[float, float, float, float], *, image_size: tuple[int, int], interpolation: str
    ) -> UInt8[np.ndarray, "h w 3"] | None:
        """The crop inside `box`, its edges rounded to whole pixels of the decoded image, resized to the input's size.

        The image is reduced in decoding as long as the crop has at least as many pixels as the input. Rows below the
        crop are not decoded, unless the file stores the image in several passes.

        Args:
            box: left, top, right, bottom, as fractions of the image's width and height.
            image_size: height and width of the input.
            interpolation: one of `FILTERS`.

        Returns:
            The pixels; None if the file is damaged.

        Raises:
            NotRead: decoding takes more memory than allowed, or a band of colour is missing.
        """
        (width, height), (left, top, right, bottom) = self.size, box
        most = min((right - left) * width / image_size[1], (bottom - top) * height / image_size[0])
        scale = next((scale for scale in SCALES if scale <= most), 1)
        rows, columns = _whole(top, bottom, height / scale), _whole(left, right, width / scale)
        data, height = self.header.cut(self.data, bottom=rows.stop * scale, height=height)
        w, h = -(-width // scale), -(-height // scale)
        memory = reserve(w * h * BYTES + self.header.coefficients)
        pixels = np.empty((h, w, 3), np.uint8)
        try:
            simplejpeg.decode_jpeg(data, min_width=w, min_height=h, min_factor=scale, buffer=pixels)
        except ValueError as error:
            if data is self.data or LEFT_OVER not in str(error):
                memory.release()
                return None
        if self.header.coefficients:
            check_scans(self.data, name=self.name)
        # a batch of one in channels-last layout, which PyTorch resizes faster
        part = rearrange(torch.from_numpy(pixels)[None, rows, columns], "b h w c -> b c h w")
        resized = F.interpolate(part, image_size, mode=interpolation, antialias=True)
        memory.release()
        crop = rearrange(resized, "1 c h w -> h w c").numpy()
        if self.profile is None:
            return crop
        return np.array(to_srgb(Image.fromarray(crop), self.profile, name=self.name))


def _bytes(stored: Path | bytes | Image.Image) -> bytes | None:
    """The bytes of a JPEG; None for any other file, which is not read."""
    if isinstance(stored, bytes):
        return stored if stored.startswith(START) else None
    # reading a pipe could block for ever
    if isinstance(stored, Image.Image) or (stored.exists() and not stored.is_file()):
        return None
    with stored.open("rb") as file:
        start = file.read(len(START))
        return start + file.read() if start == START else None


def _whole(first: float, last: float, length: float) -> slice:
    """The whole pixels between two fractions of a length, at least one."""
    start = min(round(first * length), int(length - 1e-9))
    return slice(start, max(round(last * length), start + 1))
