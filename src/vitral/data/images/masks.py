"""Segmentation masks: `images/` and `masks/` side by side, one PNG file per mask."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vitral.data.images.complete import check_complete
from vitral.data.images.decode import UnreadableImage, decoding, open_image
from vitral.data.sources.folder import list_images
from vitral.errors import UserError

__all__ = ["UNLABELLED", "largest_class", "mask_pairs", "read_mask"]

UNLABELLED = 255
"""Value of unlabelled pixels, which are ignored, as in PASCAL VOC and ADE20K."""


def mask_pairs(root: Path) -> list[tuple[Path, Path]]:
    """The images under `root/images`, sorted, each with its mask: the PNG file of the same name under `root/masks`.

    Raises:
        UserError: a folder is missing, there are no images, or one has no mask.
    """
    images, masks = root / "images", root / "masks"
    for folder in (images, masks):
        if not folder.is_dir():
            raise UserError(f"{folder} does not exist: put images into {images} and their masks into {masks}")
    pairs = [(images / name, (masks / name).with_suffix(".png")) for name in list_images(images)]
    if not pairs:
        raise UserError(f"{images} has no images: add some, and a PNG file for each in {masks}")
    missing = [mask for _, mask in pairs if not mask.is_file()]
    if missing:
        raise UserError(f"{len(missing)} images have no mask, such as {missing[0]}: add it, or remove the image")
    return pairs


def largest_class(path: Path) -> int:
    """The largest class of a mask, 0 if no pixel is labelled. Errors as in `read_mask`."""
    values = _values(path, size=None)
    return int(values[values != UNLABELLED].max(initial=0))


def read_mask(path: Path, *, size: tuple[int, int], num_classes: int) -> UInt8[np.ndarray, "h w"]:
    """The class of every pixel, resized by nearest neighbour; a palette's colours are their indices.

    Args:
        path: a PNG file of 8 bits per pixel, grey or with a palette.
        size: height and width to resize to.
        num_classes: valid values are below this, and 255 for unlabelled pixels.

    Raises:
        UnreadableImage: the file cannot be read, or has colours instead of class numbers.
        UserError: a value is out of range.
    """
    values = _values(path, size=size)
    invalid = values[(values >= num_classes) & (values != UNLABELLED)]
    if len(invalid):
        raise UserError(f"{path} has the value {invalid[0]}, but there are {num_classes} classes, counted from 0")
    return values


def _values(path: Path, *, size: tuple[int, int] | None) -> UInt8[np.ndarray, "h w"]:
    formats = ("PNG",)
    with (
        decoding(str(path), kind="a mask", formats=formats),
        path.open("rb") as file,
        open_image(file, formats=formats) as image,
    ):
        image.load()
        check_complete(image, file, 0, name=str(path))
        mode = image.mode
        resized = image.resize((size[1], size[0]), Image.Resampling.NEAREST) if size else image
        values = np.asarray(resized)
    if mode not in ("L", "P"):
        raise UnreadableImage(
            f"{path} is of mode {mode}: a mask is a PNG file of one byte a pixel, grey or with a palette"
        )
    return values
