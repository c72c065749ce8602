"""Small NORB: toys photographed from nine elevations and eighteen azimuths, classified by either."""

import gzip
import struct
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Integer

from vitral.data.sources.source import ArraySource, Source
from vitral.datasets.originals.files import read_file
from vitral.datasets.vtab.sampling import split_by_fractions
from vitral.errors import UserError, translate_parser_errors

__all__ = ["COLUMNS", "STEMS", "open_small_norb", "read_matrix"]

STEMS = {
    "train": "smallnorb-5x46789x9x18x6x2x96x96-training",
    "test": "smallnorb-5x01235x9x18x6x2x96x96-testing",
}
KINDS = {0x1E3D4C55: np.dtype("u1"), 0x1E3D4C54: np.dtype("<i4")}
"""Data type of a matrix by its magic number."""
COLUMNS = {"elevation": 1, "azimuth": 2}
"""Columns of `-info.mat`."""
STORED = {"elevation": range(9), "azimuth": range(0, 36, 2)}
"""Values in these columns."""
CLASSES = {
    "elevation": tuple(f"{30 + 5 * number}°" for number in range(9)),
    "azimuth": tuple(f"{20 * number}°" for number in range(18)),
}


def open_small_norb(root: Path, *, task: Literal["azimuth", "elevation"]) -> dict[str, Source]:
    """The `-dat.mat` and `-info.mat` of both parts, gzipped or not. Of each stereo pair, the left image is used.

    Half of the test images are the validation split, the other half the test split.

    Raises:
        UserError: files are missing or damaged.
    """
    train, test = (_source(root, stem, task) for stem in STEMS.values())
    val, test = split_by_fractions(test, (0.5,))
    return {"train": train, "val": val, "test": test}


def _source(root: Path, stem: str, task: str) -> ArraySource:
    images, info = (read_matrix(root / f"{stem}-{what}.mat") for what in ("dat", "info"))
    column, classes = COLUMNS[task], CLASSES[task]
    pairs = images.dtype == np.uint8 and images.shape[1:] == (2, 96, 96)
    if not pairs or info.shape != (len(images), 4):
        raise UserError(f"{root}/{stem}-dat.mat and -info.mat do not match: download them again")
    if not np.isin(info[:, column], STORED[task]).all():
        raise UserError(f"{root}/{stem}-info.mat has positions that small NORB does not have: download it again")
    return ArraySource(
        title=f"{root}/{stem}",
        images=np.ascontiguousarray(images[:, 0]),
        labels=info[:, column].astype(np.int64) // STORED[task].step,
        classes=classes,
    )


def read_matrix(file: Path) -> Integer[np.ndarray, "*shape"]:
    """A file in the authors' binary format: a magic number, the number of axes, at least three sizes, then the values.

    Args:
        file: the unpacked file; if it does not exist, `.gz` is appended to its name.

    Raises:
        UserError: it is missing, damaged, or of another form.
    """
    packed = file.with_name(f"{file.name}.gz")
    content = read_file(packed if packed.is_file() and not file.is_file() else file)
    with translate_parser_errors(
        lambda _: f"{file} is damaged, or not in small NORB's binary format: download it again"
    ):
        content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
        magic, axes = struct.unpack_from("<Ii", content)
        sizes = struct.unpack_from(f"<{max(axes, 3)}i", content, 8)
        values = np.frombuffer(content, KINDS[magic], offset=8 + 4 * len(sizes))
        return values.reshape(sizes[:axes])
