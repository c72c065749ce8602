"""Colour profiles: pixels of another colour space than sRGB are converted to it by littleCMS."""

from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

from vitral.data.notes import note_first

__all__ = ["profile_name", "to_srgb"]

SAME = 2
"""Levels by which a profile may change a colour and still count as sRGB: the profiles named so differ in rounding."""

MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Pillow's mode by the colour space of a profile; profiles of other spaces do not describe pixels that are read."""

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))

BROKEN = "its colour profile is damaged and is ignored"
FOREIGN = "its colour profile is of another colour space than its pixels and is ignored"


def to_srgb(image: Image.Image, profile: bytes, *, name: str) -> Image.Image:
    """Converts by the profile in perceptual intent; the same image if the profile changes no colour.

    A profile that is damaged, or belongs to pixels of another kind, is ignored, with one note.

    Args:
        image: of mode "L", "RGB", "RGBA" or "CMYK"; alpha stays as it is.
        profile: the bytes of the ICC profile.
        name: the image's name in the note.

    Returns:
        An image of mode "RGB" or "RGBA", or `image` itself.
    """
    mode, transform = _transform(profile)
    if mode is None:
        note_first(BROKEN, name)
        return image
    if transform is None:
        return image
    colours = image.convert("RGB") if image.mode == "RGBA" or (image.mode, mode) == ("L", "RGB") else image
    if colours.mode != mode:
        note_first(FOREIGN, name)
        return image
    converted = ImageCms.applyTransform(colours, transform)
    assert converted is not None
    if image.mode == "RGBA":
        converted.putalpha(image.getchannel("A"))
    return converted


def profile_name(profile: bytes) -> str:
    """What a profile calls itself, such as `Display P3`; `damaged` if it cannot be read."""
    try:
        return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(BytesIO(profile))).strip()
    # littleCMS's errors arrive as several kinds
    except Exception:
        return "damaged"


@lru_cache(maxsize=32)
def _transform(profile: bytes) -> tuple[str | None, ImageCms.ImageCmsTransform | None]:
    """The mode that a profile belongs to (None: it is damaged), and the transform (None: it changes no colour)."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        mode = MODES.get(source.profile.xcolor_space.strip(), "")
        if not mode:
            return mode, None
        transform = ImageCms.buildTransform(source, SRGB, mode, "RGB", ImageCms.Intent.PERCEPTUAL)
    # littleCMS's errors arrive as several kinds
    except Exception:
        return None, None
    return mode, None if mode != "CMYK" and _changes_nothing(transform, mode) else transform


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    steps = np.linspace(0, 255, 16).round().astype(np.uint8)
    if mode == "L":
        samples = Image.fromarray(steps[None])
    else:
        samples = Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(16, 256, 3))
    converted = ImageCms.applyTransform(samples, transform)
    assert converted is not None
    change = np.asarray(converted).astype(int) - np.asarray(samples.convert("RGB"))
    return int(np.abs(change).max()) <= SAME
