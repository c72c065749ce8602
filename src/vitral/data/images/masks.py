"""Images with a class for every pixel: `images/` beside `masks/`, one PNG file a mask."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vitral.data.images.decode import UnreadableImage
from vitral.data.sources.folder import list_images
from vitral.errors import UserError

__all__ = ["UNLABELLED", "largest_class", "mask_pairs", "read_mask"]

UNLABELLED = 255
"""Value of pixels that have no class, as in PASCAL VOC and ADE20K; they count nowhere."""


def mask_pairs(root: Path) -> list[tuple[Path, Path]]:
    """Each image under `root/images` in sorted order, and its mask: the PNG file of the same name under `root/masks`.

    Raises:
        UserError: a folder is missing, there are no images, or one has no mask.
    """
    images, masks = root / "images", root / "masks"
    for folder in (images, masks):
        if not folder.is_dir():
            raise UserError(f"{folder} does not exist: images with masks lie in {images} and {masks}")
    pairs = [(images / name, (masks / name).with_suffix(".png")) for name in list_images(images)]
    if not pairs:
        raise UserError(f"{images} holds no images: put some there, and a PNG file for each into {masks}")
    missing = [mask for _, mask in pairs if not mask.is_file()]
    if missing:
        raise UserError(f"{len(missing)} images have no mask, such as {missing[0]}: add it, or remove the image")
    return pairs


def largest_class(path: Path) -> int:
    """The largest value of a mask that is a class, 0 where no pixel has one. Errors as in `read_mask`."""
    values = _values(path, size=None)
    return int(values[values != UNLABELLED].max(initial=0))


def read_mask(path: Path, *, size: tuple[int, int], num_classes: int) -> UInt8[np.ndarray, "h w"]:
    """The class of every pixel, resized without mixing classes; colours of a palette are their numbers.

    Args:
        path: a PNG file of 8 bits a pixel, grey or with a palette.
        size: height and width to resize to.
        num_classes: values from 0 on that are classes; 255 is no class.

    Raises:
        UnreadableImage: the file cannot be read, or has colours instead of numbers.
        UserError: it has a value that is no class.
    """
    values = _values(path, size=size)
    wrong = values[(values >= num_classes) & (values != UNLABELLED)]
    if len(wrong):
        raise UserError(f"{path} has the value {wrong[0]}, but there are {num_classes} classes, counted from 0")
    return values


def _values(path: Path, *, size: tuple[int, int] | None) -> UInt8[np.ndarray, "h w"]:
    try:
        with Image.open(path, formats=("PNG",)) as image:
            mode = image.mode
            read = image.resize((size[1], size[0]), Image.Resampling.NEAREST) if size else image
            values = np.asarray(read)
    except (OSError, SyntaxError) as error:
        raise UnreadableImage(f"{path} cannot be read as a mask: {error}") from error
    if mode not in ("L", "P"):
        raise UnreadableImage(
            f"{path} is of mode {mode}: a mask is a PNG file of one byte a pixel, grey or with a palette"
        )
    return values
