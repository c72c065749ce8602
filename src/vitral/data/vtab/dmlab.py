"""DMLab: views of an agent in a maze. How far is what it looks at, and does it do good or harm?"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from vitral.data.originals.files import holding
from vitral.data.presets import Preset
from vitral.data.sources import Source
from vitral.data.vtab.building import vtab_task

__all__ = ["DMLAB", "Records", "open_dmlab", "read_example"]

CLASSES = tuple(str(number) for number in range(6))
SPLITS = {"train": "train", "val": "validation", "test": "test"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Records:
    """Images in a TFRecord file, read when asked for."""

    file: Path
    places: Int64[np.ndarray, "n 2"]
    """Where the bytes of each image begin and end."""
    labels: Int64[np.ndarray, " n"]
    classes: tuple[str, ...] = CLASSES

    def __len__(self) -> int:
        return len(self.labels)

    def stored(self, index: int) -> bytes:
        """See `Source`."""
        start, end = self.places[index].tolist()
        with self.file.open("rb") as stream:
            stream.seek(start)
            return stream.read(end - start)

    def name(self, index: int) -> str:
        """See `Source`."""
        return f"{self.file}[{index}]"


def open_dmlab(root: Path) -> dict[str, Source]:
    """The three files of the authors' archive, `dmlab-train.tfrecord`, `-validation` and `-test`.

    Each is read through once to know where its images are; its checksums are not looked at, as decoding tells.

    Raises:
        ValueError: files are missing or damaged.
    """
    folder = holding(root, "dmlab-train.tfrecord", "dmlab")
    return {split: _records(folder / f"dmlab-{name}.tfrecord") for split, name in SPLITS.items()}


def _records(file: Path) -> Records:
    places, labels = [], []
    try:
        with file.open("rb") as stream:
            while head := stream.read(12):  # the length, and its checksum
                (length,) = struct.unpack_from("<Q", head)
                begin, record = stream.tell(), stream.read(length)
                if len(record) < length or len(stream.read(4)) < 4:
                    raise IndexError
                (start, end), label = read_example(record)
                places.append((begin + start, begin + end))
                labels.append(label)
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from None
    except (struct.error, IndexError, KeyError, ValueError):
        raise ValueError(f"{file} is damaged, or not DMLab's, after {len(labels):,} images: fetch it again") from None
    found = np.array(labels, np.int64)
    if len(found) == 0 or found.min() < 0 or found.max() >= len(CLASSES):
        raise ValueError(f"{file} has no images, or labels that are not 0 to {len(CLASSES) - 1}: fetch it again")
    return Records(file=file, places=np.array(places, np.int64), labels=found)


def read_example(record: bytes) -> tuple[tuple[int, int], int]:
    """Where the bytes of `image` are in a `tf.train.Example`, and the number `label`.

    An example is a message whose field 1 is a message, whose fields 1 are entries of a name (1) and a value (2); a
    value has a list of bytes as field 1, or of integers as field 3.

    Raises:
        KeyError: it has no such features.
        IndexError: it is damaged.
    """
    found: dict[str, tuple[int, int]] = {}
    for features in _fields(record, 0, len(record), 1):
        for entry in _fields(record, *features, 1):
            (name,), (value,) = (list(_fields(record, *entry, number)) for number in (1, 2))
            found[record[slice(*name)].decode()] = value
    (images,), (labels,) = list(_fields(record, *found["image"], 1)), list(_fields(record, *found["label"], 3))
    (image,), (label,) = list(_fields(record, *images, 1)), list(_fields(record, *labels, 1))
    return image, _number(record, label[0])[0]


def _fields(record: bytes, at: int, end: int, number: int) -> Iterator[tuple[int, int]]:
    """Where the contents of all fields of one number are, between two places of a message."""
    while at < end:
        key, at = _number(record, at)
        if key & 7 == 2:
            size, at = _number(record, at)
            stop = at + size
        elif key & 7 == 0:
            _, stop = _number(record, at)
        else:
            raise IndexError(f"a field of the kind {key & 7}")
        if stop > end:
            raise IndexError("a field ends behind its message")
        if key >> 3 == number:
            yield at, stop
        at = stop


def _number(record: bytes, at: int) -> tuple[int, int]:
    """The integer of seven bits a byte that begins at a place, and where it ends."""
    value = shift = 0
    while True:
        value |= (record[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if not record[at - 1] & 0x80:
            return value, at


_ORIGINAL = Preset(
    title="DMLab",
    num_classes=len(CLASSES),
    num_images={"train": 65_550, "val": 22_628, "test": 22_735},
    needs="dmlab-train.tfrecord, dmlab-validation.tfrecord and dmlab-test.tfrecord",
    origin="https://github.com/google-research/task_adaptation",
    open=open_dmlab,
)

DMLAB = (vtab_task("dmlab", "DMLab", "structured", _ORIGINAL, folder="dmlab", crop=False),)
"""The task."""
