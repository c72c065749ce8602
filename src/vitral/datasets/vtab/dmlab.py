"""DMLab: views of an agent in a maze. How far is what it looks at, and does it do good or harm?"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from vitral.data.images.decode import UnreadableImage
from vitral.data.sources.source import Joined, Source
from vitral.datasets.registry import Preset
from vitral.datasets.vtab.building import vtab_task
from vitral.errors import UserError

__all__ = ["DMLAB", "Records", "open_dmlab", "read_example"]

CLASSES = tuple(str(number) for number in range(6))
SPLITS = {"train": "train", "val": "validation", "test": "test"}
NUMBER = 5 * "[0-9]"
"""In the name of a shard."""
HEAD, TAIL = 12, 4
"""Bytes of a record's length and its checksum in front, and of the checksum behind."""


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
        try:
            with self.file.open("rb") as stream:
                stream.seek(start)
                return stream.read(end - start)
        except OSError as error:
            raise UnreadableImage(f"{self.name(index)} cannot be read as an image: {error.strerror}") from None

    def name(self, index: int) -> str:
        """See `Source`."""
        return f"{self.file}[{index}]"


def open_dmlab(root: Path) -> dict[str, Source]:
    """The files of the authors' archive, `dmlab-train.tfrecord`, `-validation` and `-test`, whole or in shards such as
    `dmlab-train.tfrecord-00000-of-00010`.

    Each is read through once to know where its images are; its checksums are not looked at, as decoding tells.

    Raises:
        UserError: files are missing or damaged.
    """
    folder = root / "dmlab" if (root / "dmlab").is_dir() else root
    return {split: reduce(_joined, map(_records, _files(folder, name))) for split, name in SPLITS.items()}


def _joined(first: Source, second: Source) -> Source:
    return Joined(first=first, second=second)


def _files(folder: Path, part: str) -> list[Path]:
    """The file of a part, or all shards of it in their order."""
    whole = folder / f"dmlab-{part}.tfrecord"
    if whole.is_file():
        return [whole]
    found = sorted(folder.glob(f"{whole.name}-{NUMBER}-of-{NUMBER}"))
    if not found:
        raise UserError(
            f"{folder} has no {whole.name}, nor shards of it ({whole.name}-00000-of-00010): unpack the authors' "
            "archive there"
        )
    count = int(found[-1].name[-5:])
    shards = [folder / f"{whole.name}-{number:05d}-of-{count:05d}" for number in range(count)]
    if missing := sorted(set(shards) - set(found)):
        raise UserError(f"there is no {missing[0]}, of {count} shards: unpack the authors' archive again")
    return shards


def _records(file: Path) -> Records:
    places, labels = [], []
    try:
        with file.open("rb") as stream:
            size = file.stat().st_size
            while head := stream.read(HEAD):
                (length,) = struct.unpack_from("<Q", head)
                begin = stream.tell()
                if begin + length + TAIL > size:
                    raise IndexError
                (start, end), label = read_example(stream.read(length))
                if label >= len(CLASSES):
                    raise IndexError
                stream.seek(TAIL, 1)
                places.append((begin + start, begin + end))
                labels.append(label)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None
    except (struct.error, IndexError, KeyError, ValueError):
        raise UserError(f"{file} is damaged, or not DMLab's, after {len(labels):,} images: fetch it again") from None
    if not labels:
        raise UserError(f"{file} has no images: fetch it again")
    return Records(file=file, places=np.array(places, np.int64), labels=np.array(labels, np.int64))


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
    value = 0
    for shift in range(0, 64, 7):
        value |= (record[at] & 0x7F) << shift
        at += 1
        if not record[at - 1] & 0x80:
            return value, at
    raise IndexError("an integer of more than 64 bits")


_ORIGINAL = Preset(
    title="DMLab",
    num_classes=len(CLASSES),
    num_images={"train": 65_550, "val": 22_628, "test": 22_735},
    needs="dmlab-train.tfrecord, dmlab-validation.tfrecord and dmlab-test.tfrecord, whole or in shards",
    origin="https://storage.googleapis.com/dmlab-vtab/dmlab.tar.gz",
    open=open_dmlab,
)

DMLAB = (vtab_task("dmlab", "DMLab", "structured", _ORIGINAL, folder="dmlab", crop=False),)
"""The task."""
