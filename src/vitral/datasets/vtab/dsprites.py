"""dSprites: a white shape on black at every position and angle, classified by either."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int64, UInt8
from numpy.lib import format as npy
from PIL import Image

from vitral.data.sources.source import Source
from vitral.datasets.originals.files import find_folder
from vitral.datasets.vtab.sampling import split_by_fractions
from vitral.errors import UserError

__all__ = ["FILE", "location_class", "open_dsprites", "orientation_class"]

FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
CLASSES = tuple(str(number) for number in range(16))
SIDE = 64
BATCH = 4096
"""Images that are unpacked together."""


def location_class(place: Int64[np.ndarray, "*n"]) -> Int64[np.ndarray, "*n"]:
    """16 classes of two positions each, from left to right."""
    return place // 2


def orientation_class(turn: Int64[np.ndarray, "*n"]) -> Int64[np.ndarray, "*n"]:
    """16 classes of two or three of the 40 angles: the index over 2.5, rounded down."""
    return 2 * turn // 5


TASKS = {"orientation": (3, orientation_class), "location": (4, location_class)}
"""By task the column of the latent factors (40 orientations, 32 horizontal positions), and its class."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sprites:
    """Black and white images in memory, one bit a pixel."""

    file: Path
    bits: UInt8[np.ndarray, "n bytes"]
    labels: Int64[np.ndarray, " n"]
    classes: tuple[str, ...] = CLASSES

    def __len__(self) -> int:
        return len(self.bits)

    def stored(self, index: int) -> Image.Image:
        """See `Source`: 0 and 255."""
        return Image.fromarray(255 * np.unpackbits(self.bits[index]).reshape(SIDE, SIDE))

    def name(self, index: int) -> str:
        """See `Source`."""
        return f"{self.file}[{index}]"


def open_dsprites(root: Path, *, task: Literal["location", "orientation"]) -> dict[str, Source]:
    """The archive of all 737,280 images, split into 80, 10 and 10 %.

    It is unpacked as a stream into one bit a pixel, which takes some seconds, and 378 MB of memory instead of 3 GB.

    Raises:
        UserError: the file is missing or damaged.
    """
    file = find_folder(root, FILE, "dsprites-dataset") / FILE
    column, label = TASKS[task]
    try:
        with zipfile.ZipFile(file) as archive:
            with archive.open("latents_classes.npy") as member:
                latents = npy.read_array(member)
            bits = _bits(archive)
        labels = label(latents[:, column].astype(np.int64))
        if len(labels) != len(bits) or labels.min() < 0 or labels.max() >= len(CLASSES):
            raise UserError("its images and latent factors do not match")
    # a damaged archive makes its readers raise almost anything
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"{file} is damaged, or not dSprites' ({reason}): download it again") from None
    train, val, test = split_by_fractions(Sprites(file=file, bits=bits, labels=labels), (0.8, 0.1))
    return {"train": train, "val": val, "test": test}


def _bits(archive: zipfile.ZipFile) -> UInt8[np.ndarray, "n bytes"]:
    """The images of an archive, a NumPy file of 0 and 1."""
    with archive.open("imgs.npy") as member:
        npy.read_magic(member)
        (count, *sides), _, kind = npy.read_array_header_1_0(member)
        if (sides, kind) != ([SIDE, SIDE], np.uint8):
            raise UserError(f"its images are {kind} of {sides}")
        bits = np.empty((count, SIDE * SIDE // 8), np.uint8)
        for start in range(0, count, BATCH):
            rows = min(BATCH, count - start)
            read = member.read(rows * SIDE * SIDE)
            bits[start : start + rows] = np.packbits(np.frombuffer(read, np.uint8).reshape(rows, -1), axis=1)
    return bits
