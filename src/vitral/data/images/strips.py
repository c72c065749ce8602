"""Changes large images a few rows at a time, so that no second copy of them is in memory."""

import mmap
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from PIL import Image

__all__ = ["BYTES", "PIXELS", "VIEWS", "MappedPixels", "convert", "keeps_size", "relabel", "turn"]

PIXELS = 2**18
"""Pixels that are changed at a time."""

BYTES = 4
"""Bytes of a pixel in Pillow's memory, of any mode but grey and palettes."""

IN_PLACE = ("RGB", "RGBA")
"""Modes whose pixels become RGB where they are."""

MAPPED = "vitral_mapped"
"""Field of an image's `info`: its `MappedPixels`."""

VIEWS = {"RGB": ("RGB",), "RGBA": ("RGBA",), "CMYK": ("CMYK", "RGBX")}
"""Modes of mapped pixels: as a file has them, and as `convert` overwrites them."""

Transpose = Image.Transpose

UPRIGHT = {
    # EXIF orientation: the transpose that undoes it
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class MappedPixels:
    """An image's memory, which may be overwritten, and of which parts may be given back to the system."""

    memory: mmap.mmap
    views: tuple[Any, ...]
    """All of it as Pillow's pixels, of one mode each."""

    @classmethod
    def of(cls, size: tuple[int, int], mode: str) -> "MappedPixels":
        """Memory for an image of some width and height, and a mode of `VIEWS`; unwritten pages take none."""
        # not shared with a fork
        memory = mmap.mmap(-1, BYTES * size[0] * size[1], flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with suppress(AttributeError, OSError):  # where pages are always small, there is no such advice
            memory.madvise(mmap.MADV_NOHUGEPAGE)
        return cls(memory, tuple(Image.core.map_buffer(memory, size, "raw", 0, (view, 0, 1)) for view in VIEWS[mode]))

    @classmethod
    def of_image(cls, image: Image.Image) -> "MappedPixels | None":
        """The memory that holds an image's pixels; None: Pillow's own does."""
        mapped = image.info.get(MAPPED)
        return mapped if mapped is not None and any(view is image.im for view in mapped.views) else None

    def hold(self, image: Image.Image) -> None:
        """Makes this the memory of an image that is not loaded yet."""
        image.im, image.info[MAPPED] = self.views[0], self

    def image(self) -> Image.Image:
        """An image of this memory."""
        image = Image.Image()._new(self.views[0])
        image.info[MAPPED] = self
        return image

    def release(self, start: int, end: int) -> int:
        """Gives the pages back that lie between two bytes, of which the first begins a page; returns where they end."""
        end = end // mmap.PAGESIZE * mmap.PAGESIZE
        if end > start:
            self.memory.madvise(mmap.MADV_DONTNEED, start, end - start)
        return end


def convert(image: Image.Image, change: Callable[[Image.Image], Image.Image], mode: str) -> Image.Image:
    """Changes every pixel.

    Args:
        image: its pixels are overwritten, if they have room for the new ones.
        change: of some of its rows to an image of `mode`.
        mode: "L" or "RGB".

    Returns:
        An image of `mode`.
    """
    if image.width * image.height <= PIXELS:
        return change(image)
    mapped = MappedPixels.of_image(image)
    if mode == "RGB" and image.mode in IN_PLACE:
        target = image
    elif mode == "RGB" and mapped is not None:
        target = relabel(image._new(mapped.views[-1]), mode)
    else:
        target = Image.new(mode, image.size)
    for top, part in _strips(image):
        target.paste(change(part), (0, top))
    return relabel(target, mode)


def relabel(image: Image.Image, mode: str) -> Image.Image:
    """The same pixels, of mode RGB or RGBA: Pillow stores both in 4 bytes, but would copy them all."""
    if image.mode == mode:
        return image
    image.im.setmode(mode)
    return image._new(image.im)


def keeps_size(orientation: int | None) -> bool:
    """Whether turning an image upright leaves its width and height as they are."""
    return orientation not in (5, 6, 7, 8)


def turn(image: Image.Image, orientation: int | None) -> Image.Image:
    """Turns an image upright.

    Args:
        image: its pixels are overwritten, if it keeps its size; otherwise they are given back, if they are mapped.
        orientation: as EXIF numbers it.
    """
    method = UPRIGHT.get(orientation or 1)
    if method is None:
        return image
    if image.width * image.height <= PIXELS:
        return image.transpose(method)
    if not keeps_size(orientation):
        mapped = MappedPixels.of_image(image)
        return image.transpose(method) if mapped is None else _turn_mapped(image, mapped, method)
    if method == Transpose.FLIP_LEFT_RIGHT:
        for top, part in _strips(image):
            image.paste(part.transpose(method), (0, top))
        return image
    rows, half = max(1, PIXELS // image.width), image.height // 2
    for top in range(0, half, rows):
        _exchange(image, top, min(rows, half - top), method)
    if image.height % 2:
        middle = image.crop((0, half, image.width, half + 1))
        image.paste(middle.transpose(method), (0, half))
    return image


def _exchange(image: Image.Image, top: int, rows: int, method: Transpose) -> None:
    """Exchanges rows with those as far from the lower edge."""
    bottom = image.height - top - rows
    upper, lower = (image.crop((0, start, image.width, start + rows)) for start in (top, bottom))
    image.paste(lower.transpose(method), (0, top))
    image.paste(upper.transpose(method), (0, bottom))


def _turn_mapped(image: Image.Image, mapped: MappedPixels, method: Transpose) -> Image.Image:
    """An image of mode RGB whose width becomes its height; rows that are turned leave the memory."""
    turned = image._new(MappedPixels.of((image.height, image.width), "RGB").views[0])
    released = 0
    for top, part in _strips(image):
        bottom = top + part.height
        left = top if method in (Transpose.TRANSPOSE, Transpose.ROTATE_90) else image.height - bottom
        turned.paste(part.transpose(method), (left, 0))
        released = mapped.release(released, BYTES * image.width * bottom)
    return turned


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    rows = max(1, PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(image.height, top + rows)))
