"""TFRecord files of `tf.train.Example`, with or without the description that TensorFlow Datasets writes beside them.

An image is a range of bytes inside its record, so it is read like one inside a tar shard. The checksum of every record
is checked once, when its file is indexed.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from typing import Any

import numpy as np

from vitral.data.config import ROLES, DataConfig
from vitral.data.extra import optional
from vitral.data.notes import note_once
from vitral.data.sources.find_shards import ShardFile, find_shards, named_files
from vitral.data.sources.folder import SPLITS
from vitral.data.sources.remote import as_typed
from vitral.data.sources.shards import Index, ShardKind, ShardSource, open_shards
from vitral.data.sources.source import Source
from vitral.data.sources.tfds import Description, describe
from vitral.errors import UserError

__all__ = ["NAMES", "open_tfrecords"]

NAMES = re.compile(r"\.(tfrecords?|tfrec)(-\d+-of-\d+)?$|-\d{5}-of-\d{5}$")
"""Names of TFRecord files."""

IMAGES = ("image/encoded", "image", "image_raw", "encoded", "img", "jpeg", "jpg", "png")
"""Usual features of images; the first that a record has is taken."""

LABELS = ("image/class/label", "label", "class", "target", "image/class/text", "image/class/synset")
"""Usual features of classes; the first that a record has is taken."""

HEADER = struct.Struct("<QI")
"""A record's length in bytes, and the checksum of the length."""

GZIP, ZLIB = b"\x1f\x8b", b"\x78"
"""First bytes of compressed files."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Features of the image and the class; None: the first of the usual ones."""

    image: str | None
    label: str | None


def open_tfrecords(config: DataConfig) -> dict[str, Source]:
    """Opens TFRecord files: a folder, a pattern or URL, or a folder of TensorFlow Datasets.

    Raises:
        UserError: there are none, one is damaged, or a record has no image or class.
        OSError: a file cannot be read.
    """
    if config.root is None:
        raise UserError("--data.source tfrecord needs --data.root: a folder, or train-{00000..00099}-of-00100")
    description = describe(config.root)
    if description is None:
        is_shard = lambda name: NAMES.search(name) is not None  # noqa: E731
        shards = find_shards(config, is_shard=is_shard, example=".tfrecord")
        columns, names = Columns(image=config.image_column, label=config.label_column), config.class_names
    else:
        shards = _described(config, description)
        image, label = config.image_column or description.image, config.label_column or description.label
        columns = Columns(image=image, label=label)
        names = config.class_names or description.classes(label)
    kind = ShardKind(name="tfrecords", key=f"{columns}", build=partial(_build_index, columns))
    sources = open_shards(shards, kind, names=names, origin=as_typed(config.root))
    if description is not None:
        for source in sources.values():
            _check_lengths(source, description)
    return sources


def _described(config: DataConfig, description: Description) -> dict[str, tuple[ShardFile, ...]]:
    """The files of each split of TensorFlow Datasets."""
    known = list(description.shards)
    if config.splits:
        names = dict(entry.split("=", 1) for entry in config.splits)
    else:
        names = {SPLITS[name.lower()]: name for name in known if name.lower() in SPLITS}
        if left := [name for name in known if name not in names.values()]:
            note_once(f"{description.folder}: the splits {', '.join(left)} are left out; --data.splits gives others")
    unknown = [name for name in names.values() if name not in known]
    if unknown or "train" not in names:
        wrong = f"no split {unknown[0]!r}" if unknown else "no split for training"
        raise UserError(
            f"{description.folder} has {wrong}, only {', '.join(known)}: assign them, such as "
            f"--data.splits train={known[0]} test={known[-1]}"
        )
    return {role: named_files(description.folder, description.shards[names[role]]) for role in ROLES if role in names}


def _check_lengths(source: Source, description: Description) -> None:
    """Checks the number of records in each file."""
    assert isinstance(source, ShardSource)
    counts = np.diff([*source.starts.tolist(), len(source)])
    for shard, count in zip(source.shards, counts.tolist(), strict=True):
        expected = description.lengths[str(shard).rpartition("/")[2]]
        if count != expected:
            raise UserError(f"{shard} has {count} records, but dataset_info.json says {expected}: download it again")


def _build_index(columns: Columns, file: str, stream: BufferedReader, size: int) -> Index:
    """Reads every record of a file."""
    protocol = optional("tfrecord", purpose="reading TFRecord files").example_pb2
    offsets, sizes, labels = [], [], []
    for number, (start, record) in enumerate(_records(file, stream, size)):
        name = f"{file}[{number}]"
        try:
            features = protocol.Example.FromString(record).features.feature
        # protobuf's error is of a module that is not public
        except Exception:
            raise UserError(f"{name} is no tf.train.Example: give files of single images and classes") from None
        image = _value(name, "image", features, columns.image, IMAGES)
        if not isinstance(image, bytes):
            raise UserError(f"{name} has numbers as its image: the image must be an encoded file, such as a JPEG")
        label = _value(name, "label", features, columns.label, LABELS)
        # an earlier occurrence of the same bytes is as good
        offsets.append(start + record.index(image))
        sizes.append(len(image))
        labels.append(label.decode(errors="replace") if isinstance(label, bytes) else label)
    words = any(isinstance(label, str) for label in labels)
    return Index(
        offsets=np.array(offsets, np.int64),
        sizes=np.array(sizes, np.int64),
        labels=np.array([str(label) for label in labels]) if words else np.array(labels, np.int64),
    )


def _records(file: str, stream: BufferedReader, size: int) -> Iterator[tuple[int, bytes]]:
    """The offset of each record's data, and the data."""
    position, number = 0, 0
    while position < size:
        header = stream.read(HEADER.size)
        if len(header) < HEADER.size:
            raise UserError(f"{file} is truncated in record {number}: download it again")
        length, check = HEADER.unpack(header)
        if _checksum(header[:8]) != check:
            if position == 0:
                packed = header.startswith((GZIP, ZLIB))
                reason = (
                    "is compressed: unpack it" if packed else "is not a TFRecord file, or damaged: download it again"
                )
                raise UserError(f"{file} {reason}")
            raise UserError(f"{file} is damaged in record {number}, at byte {position}: download it again")
        end = position + HEADER.size + length + 4
        if end > size:
            raise UserError(f"{file} is truncated in record {number}: download it again")
        record = stream.read(length)
        if stream.read(4) != _checksum(record).to_bytes(4, "little"):
            raise UserError(f"{file} is damaged in record {number}, at byte {position}: download it again")
        yield position + HEADER.size, record
        position, number = end, number + 1


def _checksum(content: bytes) -> int:
    """CRC-32C, rotated by 15 bits and moved, as records have it."""
    crc = optional("crc32c", purpose="reading TFRecord files").crc32c(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _value(name: str, kind: str, features: Any, given: str | None, usual: tuple[str, ...]) -> bytes | int:
    """The only value of a feature."""
    feature = given or next((candidate for candidate in usual if candidate in features), None)
    if feature is None or feature not in features:
        wanted = f"no feature {feature!r}" if feature else f"no usual feature of the {kind}"
        listed = ", ".join(sorted(features))
        raise UserError(f"{name} has {wanted}, only {listed}: choose one with --data.{kind}-column")
    found = features[feature]
    values = [*found.bytes_list.value, *found.int64_list.value]
    if len(values) != 1:
        what = "numbers with a fraction" if len(found.float_list.value) else f"{len(values)} values"
        raise UserError(f"{name} has {what} as {feature!r}: each record must have one {kind}")
    return values[0]
