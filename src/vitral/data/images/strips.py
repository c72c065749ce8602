"""Changes large images a few rows at a time, so that no second copy of them is in memory."""

from collections.abc import Callable, Iterator

from PIL import Image

__all__ = ["PIXELS", "SHARED", "convert", "keeps_size", "relabel", "turn"]

PIXELS = 2**18
"""Pixels that are changed at a time."""

IN_PLACE = ("RGB", "RGBA")
"""Modes whose pixels become RGB where they are."""

SHARED = "vitral_shared"
"""Field of a CMYK image's `info`: its pixels, and the same memory as pixels of mode RGBX, which may be overwritten."""

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
    cmyk, rgbx = image.info.get(SHARED, (None, None))
    if mode == "RGB" and image.mode in IN_PLACE:
        target = image
    elif mode == "RGB" and cmyk is image.im:
        target = relabel(image._new(rgbx), mode)
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
        image: its pixels are overwritten, if it keeps its size.
        orientation: as EXIF numbers it.
    """
    method = UPRIGHT.get(orientation or 1)
    if method is None:
        return image
    if image.width * image.height <= PIXELS or not keeps_size(orientation):
        return image.transpose(method)
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


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    rows = max(1, PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(image.height, top + rows)))
