"""IDX files, the format of MNIST and Fashion-MNIST: a header of sizes, then bytes; gzipped or not.

torchvision's reader is not used: it does not read gzipped files, and checks damaged ones by `assert`, if at all.
"""

import gzip
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from vitral.errors import UserError, translate_parser_errors

__all__ = ["LabelledImages", "read_images", "read_labels", "read_split"]

ELEMENTS = {
    0x08: "unsigned bytes",
    0x09: "signed bytes",
    0x0B: "16-bit integers",
    0x0C: "32-bit integers",
    0x0D: "32-bit floats",
    0x0E: "64-bit floats",
}
"""Element types of IDX files by the third byte of the header."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledImages:
    """One split: the images and labels of two files."""

    file: Path
    """File of the images."""
    labels_file: Path
    """File of the labels."""
    images: UInt8[np.ndarray, "n h w"]
    """Grey values; 0 is black in most data sets."""
    labels: Int64[np.ndarray, " n"]
    """Class of each image."""


def read_split(root: Path, prefix: str) -> LabelledImages | None:
    """Reads `PREFIX-images-idx3-ubyte` and `PREFIX-labels-idx1-ubyte`, with or without `.gz`.

    Args:
        root: folder of the files.
        prefix: `train` or `t10k`.

    Returns:
        The split, or None if neither file exists.

    Raises:
        UserError: one of the two is missing or malformed, or their lengths differ.
    """
    file, labels_file = _find(root, f"{prefix}-images", "idx3-ubyte"), _find(root, f"{prefix}-labels", "idx1-ubyte")
    if file is None and labels_file is None:
        return None
    if file is None or labels_file is None:
        missing = f"{prefix}-images-idx3-ubyte" if file is None else f"{prefix}-labels-idx1-ubyte"
        raise UserError(f"{root} has {file or labels_file} but no {missing} (or {missing}.gz): put it there")
    images, labels = read_images(file), read_labels(labels_file)
    if len(images) != len(labels):
        raise UserError(f"{file} holds {len(images)} images but {labels_file} {len(labels)} labels: they do not match")
    return LabelledImages(file=file, labels_file=labels_file, images=images, labels=labels)


def read_images(file: Path) -> UInt8[np.ndarray, "n h w"]:
    """Reads a file of images.

    Raises:
        UserError: the file is not an IDX file of images, damaged, or empty.
    """
    return _read(file, what="images", axes=3)


def read_labels(file: Path) -> Int64[np.ndarray, " n"]:
    """Reads a file of labels.

    Raises:
        UserError: the file is not an IDX file of labels, damaged, or empty.
    """
    return _read(file, what="labels", axes=1).astype(np.int64)


def _find(root: Path, stem: str, ending: str) -> Path | None:
    """The file by its original name, or with a dot in place of the second dash, as some programs write it."""
    names = (f"{stem}{separator}{ending}{suffix}" for separator in "-." for suffix in ("", ".gz"))
    return next((root / name for name in names if (root / name).is_file()), None)


def _read(file: Path, *, what: str, axes: int) -> np.ndarray:
    content = _content(file)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in ELEMENTS:
        raise UserError(f"{file} is not an IDX file: it does not start with two zero bytes and a known type")
    if content[2] != 0x08:
        raise UserError(f"{file} holds {ELEMENTS[content[2]]}, but only unsigned bytes are read")
    if content[3] != axes:
        raise UserError(f"{file} has {content[3]} axes where {what} have {axes}: is it another file under this name?")
    start = 4 + 4 * axes
    if len(content) < start:
        raise UserError(f"{file} ends within its header: download it again")
    shape = tuple(int.from_bytes(content[at : at + 4]) for at in range(4, start, 4))
    expected, actual = math.prod(shape), len(content) - start
    if expected != actual:
        raise UserError(f"{file} announces {expected} bytes of {what} but holds {actual}: download it again")
    if not expected:
        raise UserError(f"{file} holds no {what}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _content(file: Path) -> bytes:
    """The bytes, unpacked if they are gzipped, whatever the file's name."""
    try:
        content = file.read_bytes()
        with translate_parser_errors(lambda error: f"{file} is a damaged gzip file ({error}): download it again"):
            return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None
