"""dSprites: white shapes on black, at every place and turned by every angle. Where is it, and how is it turned?"""

import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from numpy.lib import format as npy
from PIL import Image

from vitral.data.sources.source import Source
from vitral.datasets.originals.files import holding
from vitral.datasets.registry import Preset
from vitral.datasets.vtab.building import divided, vtab_task
from vitral.errors import UserError

__all__ = ["DSPRITES", "location_class", "open_dsprites", "orientation_class"]

FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
CLASSES = tuple(str(number) for number in range(16))
TURN, ACROSS = 3, 4
"""Columns of what an image was drawn by: its orientation of 40, and its horizontal place of 32."""
SIDE = 64
AT_ONCE = 4096
"""Images that are unpacked together."""


def location_class(place: Int64[np.ndarray, "*n"]) -> Int64[np.ndarray, "*n"]:
    """32 places from left to right are 16 classes of two."""
    return place // 2


def orientation_class(turn: Int64[np.ndarray, "*n"]) -> Int64[np.ndarray, "*n"]:
    """40 angles are 16 classes of two or three: the whole part of the angle's number over 2.5."""
    return 2 * turn // 5


LABELS = {TURN: orientation_class, ACROSS: location_class}


@dataclass(frozen=True, kw_only=True, eq=False)
class Sprites:
    """Images of black and white, one bit a pixel."""

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


def open_dsprites(root: Path, *, column: int) -> dict[str, Source]:
    """The archive of all 737,280 images, of which 80, 10 and 10 % are the splits.

    It is unpacked as a stream into one bit a pixel: some seconds, and 378 MB of memory instead of 3 GB.

    Raises:
        UserError: the file is missing or damaged.
    """
    file = holding(root, FILE, "dsprites-dataset") / FILE
    try:
        with zipfile.ZipFile(file) as archive:
            with archive.open("latents_classes.npy") as member:
                latents = npy.read_array(member)
            bits = _bits(archive)
        labels = LABELS[column](latents[:, column].astype(np.int64))
        if len(labels) != len(bits) or labels.min() < 0 or labels.max() >= len(CLASSES):
            raise UserError("images and what they were drawn by do not fit")
    # a damaged archive makes its readers raise almost anything
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"{file} is damaged, or not dSprites' ({reason}): fetch it again") from None
    train, val, test = divided(Sprites(file=file, bits=bits, labels=labels), (0.8, 0.1))
    return {"train": train, "val": val, "test": test}


def _bits(archive: zipfile.ZipFile) -> UInt8[np.ndarray, "n bytes"]:
    """The images of an archive, a NumPy file of 0 and 1."""
    with archive.open("imgs.npy") as member:
        npy.read_magic(member)
        (count, *sides), _, kind = npy.read_array_header_1_0(member)
        if (sides, kind) != ([SIDE, SIDE], np.uint8):
            raise UserError(f"it holds {kind} of {sides}")
        found = np.empty((count, SIDE * SIDE // 8), np.uint8)
        for start in range(0, count, AT_ONCE):
            rows = min(AT_ONCE, count - start)
            read = member.read(rows * SIDE * SIDE)
            found[start : start + rows] = np.packbits(np.frombuffer(read, np.uint8).reshape(rows, -1), axis=1)
    return found


def _original(column: int) -> Preset:
    return Preset(
        title="dSprites",
        num_classes=len(CLASSES),
        num_images={"train": 589_824, "val": 73_728, "test": 73_728},
        needs=FILE,
        origin="https://github.com/google-deepmind/dsprites-dataset",
        open=partial(open_dsprites, column=column),
    )


DSPRITES = (
    vtab_task(
        "dsprites-location", "dSpr-Loc", "structured", _original(ACROSS), folder="dsprites", crop=False, flip=False
    ),
    vtab_task("dsprites-orientation", "dSpr-Ori", "structured", _original(TURN), folder="dsprites", flip=False),
)
"""Both tasks."""
