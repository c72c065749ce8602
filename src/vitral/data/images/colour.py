"""Colour profiles: pixels of another colour space than sRGB are converted to it by littleCMS."""

from collections.abc import Callable
from functools import lru_cache, partial
from io import BytesIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms

from vitral.data.notes import note_first

__all__ = ["from_gamma", "gamma_table", "is_grey", "is_srgb", "profile_name", "to_srgb"]

SAME = 2
"""Levels by which a profile may change a colour and still count as sRGB: the profiles named so differ in rounding."""

MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Pillow's mode by the colour space of a profile; profiles of other spaces do not describe pixels that are read."""

Transform = Callable[[Image.Image], Image.Image]

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))

DAMAGED = "its colour profile is damaged and is ignored"
FOREIGN = "its colour profile is of another colour space than its pixels and is ignored"


def to_srgb(image: Image.Image, profile: bytes, *, name: str) -> Image.Image:
    """Converts by the profile in perceptual intent; the same image if the profile changes no colour.

    A profile that is damaged, or belongs to pixels of another kind, is ignored, with one note.

    Args:
        image: of mode "L", "RGB", "RGBA" or "CMYK"; alpha stays as it is.
        profile: the bytes of the ICC profile.
        name: the image's name in the note.

    Returns:
        An image of mode "L", "RGB" or "RGBA", or `image` itself.
    """
    mode, transform = _transform(profile)
    if mode is None:
        note_first(DAMAGED, name)
        return image
    if transform is None:
        return image
    colours = image.convert("RGB") if image.mode == "RGBA" or (image.mode, mode) == ("L", "RGB") else image
    if colours.mode != mode:
        note_first(FOREIGN, name)
        return image
    converted = transform(colours)
    if image.mode == "RGBA":
        converted.putalpha(image.getchannel("A"))
    return converted


def from_gamma(image: Image.Image, gamma: float) -> Image.Image:
    """Converts to sRGB from values that are light to the power of `gamma`.

    Args:
        image: of mode "L", "RGB" or "RGBA"; alpha stays as it is.
        gamma: as PNG's `gAMA` gives it, such as 1.0 for linear light.
    """
    colours = gamma_table(gamma, white=255).tolist()
    return image.point(colours * min(len(image.mode), 3) + list(range(256)) * (image.mode == "RGBA"))


def gamma_table(gamma: float, *, white: int) -> UInt8[np.ndarray, " n"]:
    """The sRGB level of each value up to `white`, which are light to the power of `gamma`."""
    light = (np.arange(white + 1) / white) ** (1 / gamma)
    levels = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(levels).astype(np.uint8)


def is_grey(profile: bytes) -> bool:
    """Whether a profile is of greys, so that it makes no colours of them; also of one that is damaged."""
    return _transform(profile)[0] in ("L", None)


def is_srgb(profile: bytes) -> bool:
    """Whether a profile changes no colour, whatever it calls itself."""
    return _transform(profile) == ("RGB", None)


def profile_name(profile: bytes) -> str:
    """What a profile calls itself, such as `Display P3`; `damaged` if it cannot be read."""
    try:
        return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(BytesIO(profile))).strip()
    # littleCMS's errors arrive as several kinds
    except Exception:
        return "damaged"


@lru_cache(maxsize=32)
def _transform(profile: bytes) -> tuple[str | None, Transform | None]:
    """The mode that a profile belongs to (None: it is damaged), and the transform (None: it changes no colour)."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        mode = MODES.get(source.profile.xcolor_space.strip(), "")  # pyright: ignore[reportAttributeAccessIssue]
        if not mode:
            return mode, None
        exact = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE
        built = ImageCms.buildTransform(source, SRGB, mode, "RGB", ImageCms.Intent.PERCEPTUAL, exact)
    # littleCMS's errors arrive as several kinds
    except Exception:
        return None, None
    transform = partial(_apply, built)
    if mode == "CMYK":
        return mode, transform
    samples = _samples(mode)
    change = np.asarray(transform(samples)).astype(int) - np.asarray(samples.convert("RGB"))
    if np.abs(change).max() <= SAME:
        return mode, None
    # a table is exact where littleCMS interpolates between a few greys
    return mode, transform if mode == "RGB" else partial(_look_up, transform(samples).getchannel("R").tobytes())


def _apply(built: ImageCms.ImageCmsTransform, image: Image.Image) -> Image.Image:
    converted = ImageCms.applyTransform(image, built)
    assert converted is not None
    return converted


def _look_up(table: bytes, image: Image.Image) -> Image.Image:
    return image.point(list(table))


def _samples(mode: str) -> Image.Image:
    """Every grey, or colours of all kinds."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.linspace(0, 255, 16).round().astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(16, 256, 3))
