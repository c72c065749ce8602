"""Pixels as Pillow decodes them, as upright grey or sRGB of 8 bits over white."""

from collections.abc import Callable
from functools import partial

from PIL import ExifTags, Image

from vitral.data.images import png, strips, tiff
from vitral.data.images.colour import from_gamma, is_grey, to_srgb
from vitral.data.images.errors import is_machine_error
from vitral.data.images.values import to_8_bits

__all__ = ["MODES", "orientation", "to_plain"]

MODES = {1: "L", 3: "RGB"}
"""Pillow's mode by number of channels."""

Change = Callable[[Image.Image], Image.Image]


def to_plain(image: Image.Image, *, channels: int, name: str, keep: bool) -> Image.Image:
    """An upright image of mode "L" or "RGB" without metadata.

    Args:
        image: of any mode.
        keep: whether it stays as it is; else its pixels are taken over, and it has none afterwards.
        channels: 1 or 3.
        name: the image's name in notes.
    """
    image.load()
    oriented = orientation(image)
    pixels = _values(image, name, keep=keep)
    if not keep:
        Image.Image.close(image)  # drops its pixels, and leaves the file open
    profile = pixels.info.get("icc_profile")
    colour: Change | None = None
    if profile is not None:
        colour = partial(to_srgb, profile=profile, name=name)
    elif pixels.format == "PNG" and (gamma := png.other_gamma(pixels.info)) is not None:
        colour = partial(from_gamma, gamma=gamma)
    grey = pixels.mode in ("1", "L", "LA") and (profile is None or is_grey(profile))
    mode = "L" if grey else MODES[channels]
    if pixels.mode != mode or colour is not None or pixels.has_transparency_data:
        pixels = strips.convert(pixels, partial(_change, colour=colour, mode=mode), mode)
    pixels = strips.turn(pixels, oriented)
    if pixels.mode != MODES[channels]:
        pixels = pixels.convert(MODES[channels])
    # remove the orientation, or reading the result again would rotate it again
    pixels.info = {}
    return pixels


def orientation(image: Image.Image) -> int | None:
    """The orientation in EXIF or XMP; None where the decoder turns the image by what the codestream says."""
    if image.format == "JXL" and not getattr(image, "jpeg", False):
        return None
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    # the pixels are decoded already: damaged metadata is no reason to reject them
    except Exception as error:
        if is_machine_error(error):
            raise
        return None


def _values(image: Image.Image, name: str, *, keep: bool) -> Image.Image:
    """An image of its own with the pixels that the file means, with 8 bits a band, and its metadata."""
    pixels = tiff.correct_values(image, name=name) if image.format == "TIFF" else image
    if pixels.mode == "F" or pixels.mode.startswith("I"):
        pixels = _to_grey(pixels, name)
    elif pixels is image:
        pixels = image.copy() if keep else image._new(image.im)  # of the same pixels
    pixels.format = image.format
    return pixels


def _to_grey(image: Image.Image, name: str) -> Image.Image:
    """Scales 16-bit, 32-bit and float greys; a value that a PNG declares transparent becomes white."""
    deep = image.format == "PNG" and image.mode.startswith("I;16")
    hole = image.info.get("transparency")
    scaled = Image.fromarray(png.grey_levels(image, name=name) if deep else to_8_bits(image, name=name, hole=hole))
    used = ("transparency", "gamma") if deep else ("transparency",)
    scaled.info = {field: value for field, value in image.info.items() if field not in used}
    return scaled


def _change(part: Image.Image, *, colour: Change | None, mode: str) -> Image.Image:
    if colour is not None:
        part = _converted(part, colour)
    if part.has_transparency_data:
        part = Image.alpha_composite(Image.new("RGBA", part.size, "white"), part.convert("RGBA"))
    if part.mode not in ("1", "L", "RGB"):
        # some modes convert to grey only by way of RGB
        part = part.convert("RGB")
    return part if part.mode == mode else part.convert(mode)


def _converted(image: Image.Image, convert: Change) -> Image.Image:
    """Converts the colours of an image of any mode, and keeps their alpha.

    Args:
        image: of any mode.
        convert: from an image of mode "L", "RGB", "RGBA" or "CMYK" to sRGB.
    """
    if image.mode not in ("L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK"):
        return image  # the mode itself says the colours
    if not image.has_transparency_data:
        return convert(image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB"))
    colours = image.convert("RGBA")
    if image.mode not in ("L", "LA"):
        return convert(colours)
    converted = convert(colours.getchannel("R")).convert("RGBA")
    converted.putalpha(colours.getchannel("A"))
    return converted
