"""Small NORB: toys on a turntable, photographed from nine heights and eighteen sides. From where?"""

import gzip
import struct
import zlib
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from vitral.data.sources.source import ArraySource, Source
from vitral.datasets.originals.files import content
from vitral.datasets.registry import Preset
from vitral.datasets.vtab.building import divided, vtab_task
from vitral.errors import UserError

__all__ = ["SMALL_NORB", "open_small_norb", "read_matrix"]

STEMS = {
    "train": "smallnorb-5x46789x9x18x6x2x96x96-training",
    "test": "smallnorb-5x01235x9x18x6x2x96x96-testing",
}
KINDS = {0x1E3D4C55: np.dtype("u1"), 0x1E3D4C54: np.dtype("<i4")}
"""What a matrix holds, by the magic number in front."""
ELEVATION, AZIMUTH = 1, 2
"""Columns of `-info.mat`."""
STORED = {ELEVATION: range(9), AZIMUTH: range(0, 36, 2)}
"""Their values."""
CLASSES = {
    ELEVATION: tuple(f"{30 + 5 * number}°" for number in range(9)),
    AZIMUTH: tuple(f"{20 * number}°" for number in range(18)),
}


def open_small_norb(root: Path, *, column: int) -> dict[str, Source]:
    """The two parts' `-dat.mat` and `-info.mat`, gzipped or not; the left one of each pair of photographs.

    One half of the test images is the validation split, the other the test split.

    Raises:
        UserError: files are missing or damaged.
    """
    train, test = (_source(root, stem, column) for stem in STEMS.values())
    val, test = divided(test, (0.5,))
    return {"train": train, "val": val, "test": test}


def _source(root: Path, stem: str, column: int) -> ArraySource:
    images, info = (read_matrix(root / f"{stem}-{what}.mat") for what in ("dat", "info"))
    classes = CLASSES[column]
    pairs = images.dtype == np.uint8 and images.shape[1:] == (2, 96, 96)
    if not pairs or info.shape != (len(images), 4):
        raise UserError(f"{root}/{stem}-dat.mat and -info.mat do not fit each other: fetch them again")
    if not np.isin(info[:, column], STORED[column]).all():
        raise UserError(f"{root}/{stem}-info.mat has positions that small NORB has not: fetch it again")
    return ArraySource(
        title=f"{root}/{stem}",
        images=np.ascontiguousarray(images[:, 0]),
        labels=info[:, column].astype(np.int64) // STORED[column].step,
        classes=classes,
    )


def read_matrix(file: Path) -> Integer[np.ndarray, "*shape"]:
    """A file in the authors' binary form: a magic number, the number of axes, at least three sizes, then the values.

    Args:
        file: as it was unpacked; where it is not there, it is read with `.gz` behind its name.

    Raises:
        UserError: it is missing, damaged, or of another form.
    """
    packed = file.with_name(f"{file.name}.gz")
    read = content(packed if packed.is_file() and not file.is_file() else file)
    try:
        read = gzip.decompress(read) if read.startswith(b"\x1f\x8b") else read
        magic, axes = struct.unpack_from("<Ii", read)
        sizes = struct.unpack_from(f"<{max(axes, 3)}i", read, 8)
        values = np.frombuffer(read, KINDS[magic], offset=8 + 4 * len(sizes))
        return values.reshape(sizes[:axes])
    except (struct.error, KeyError, ValueError, EOFError, zlib.error, gzip.BadGzipFile):
        raise UserError(f"{file} is damaged, or not in small NORB's binary form: fetch it again") from None


def _original(column: int) -> Preset:
    return Preset(
        title="Small NORB",
        num_classes=len(CLASSES[column]),
        num_images={"train": 24_300, "val": 12_150, "test": 12_150},
        needs=f"-dat.mat and -info.mat of {STEMS['train']} and {STEMS['test']}, gzipped or not",
        origin="https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/",
        open=partial(open_small_norb, column=column),
    )


SMALL_NORB = (
    vtab_task("smallnorb-azimuth", "sNORB-Azim", "structured", _original(AZIMUTH), folder="smallnorb", flip=False),
    vtab_task("smallnorb-elevation", "sNORB-Elev", "structured", _original(ELEVATION), folder="smallnorb"),
)
"""Both tasks."""
