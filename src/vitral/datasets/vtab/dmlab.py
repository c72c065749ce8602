"""DMLab: views of an agent in a maze, classified by the distance to the nearest object and whether it is a reward.

The files are TFRecords of `tf.train.Example`, parsed here because reading by index needs the offset of each image's
bytes: TensorFlow and the package tfrecord give whole records one after another.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from vitral.data.images.decode import read_range
from vitral.data.sources.source import ConcatSource, Source
from vitral.errors import UserError

__all__ = ["RecordSource", "open_dmlab", "read_example"]

CLASSES = tuple(str(number) for number in range(6))
SPLITS = {"train": "train", "val": "validation", "test": "test"}
NUMBER = 5 * "[0-9]"
"""Glob pattern of a number in the name of a shard."""
HEAD, TAIL = 12, 4
"""Bytes before a record (its length and a checksum) and behind it (a checksum)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordSource:
    """Images in a TFRecord file, read on access."""

    file: Path
    ranges: Int64[np.ndarray, "n 2"]
    """First byte of each image, and the byte behind its last."""
    labels: Int64[np.ndarray, " n"]
    classes: tuple[str, ...] = CLASSES

    def __len__(self) -> int:
        return len(self.labels)

    def stored(self, index: int) -> bytes:
        """See `Source`."""
        start, end = self.ranges[index].tolist()
        return read_range(self.file, start, end - start, name=self.name(index))

    def name(self, index: int) -> str:
        """See `Source`."""
        return f"{self.file}[{index}]"


def open_dmlab(root: Path) -> dict[str, Source]:
    """The files of the authors' archive, `dmlab-train.tfrecord`, `-validation` and `-test`, whole or in shards such as
    `dmlab-train.tfrecord-00000-of-00010`.

    Each file is read once to index its images. Checksums are not verified: decoding finds damaged images.

    Raises:
        UserError: files are missing or damaged.
    """
    folder = root / "dmlab" if (root / "dmlab").is_dir() else root
    return {split: reduce(_concat, map(_records, _files(folder, name))) for split, name in SPLITS.items()}


def _concat(first: Source, second: Source) -> Source:
    return ConcatSource(first=first, second=second)


def _files(folder: Path, part: str) -> list[Path]:
    """The file of a split, or all its shards in order."""
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


def _records(file: Path) -> RecordSource:
    ranges, labels = [], []
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
                ranges.append((begin + start, begin + end))
                labels.append(label)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None
    except (struct.error, IndexError, KeyError, ValueError):
        raise UserError(f"{file} is damaged, or not DMLab's, after {len(labels):,} images: download it again") from None
    if not labels:
        raise UserError(f"{file} has no images: download it again")
    return RecordSource(file=file, ranges=np.array(ranges, np.int64), labels=np.array(labels, np.int64))


def read_example(record: bytes) -> tuple[tuple[int, int], int]:
    """The byte range of the feature `image` in a `tf.train.Example`, and the integer `label`.

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
    """The byte ranges of all fields with a number, between two offsets of a message."""
    while at < end:
        key, at = _number(record, at)
        if key & 7 == 2:
            size, at = _number(record, at)
            stop = at + size
        elif key & 7 == 0:
            _, stop = _number(record, at)
        else:
            raise IndexError(f"a field of type {key & 7}")
        if stop > end:
            raise IndexError("a field ends behind its message")
        if key >> 3 == number:
            yield at, stop
        at = stop


def _number(record: bytes, at: int) -> tuple[int, int]:
    """The variable-length integer (seven bits a byte) at an offset, and the offset behind it."""
    value = 0
    for shift in range(0, 64, 7):
        value |= (record[at] & 0x7F) << shift
        at += 1
        if not record[at - 1] & 0x80:
            return value, at
    raise IndexError("an integer of more than 64 bits")
