"""Tar shards in the WebDataset format: files that differ only in their suffix belong to one sample.

`dog/0001.jpg` and `dog/0001.cls` are an image and its class. Images are read by offset, from an index that is built
once from the shard's headers and cached until the shard changes.
"""

import re
import tarfile
from collections.abc import Iterator, Set
from functools import partial
from io import BufferedReader
from itertools import groupby
from pathlib import Path

import numpy as np

from vitral.config import parse_json
from vitral.data.config import DataConfig
from vitral.data.images.bands import image_suffixes
from vitral.data.sources.find_shards import find_shards
from vitral.data.sources.remote import as_typed, as_url, read_if_there
from vitral.data.sources.shards import Index, ShardKind, open_shards
from vitral.data.sources.source import Source
from vitral.data.sources.spool import is_pipe
from vitral.errors import UserError

__all__ = ["open_tars"]


def open_tars(config: DataConfig) -> dict[str, Source]:
    """Opens shards: a folder of them, or a pattern such as `shards/train-{000..146}.tar`, also of URLs.

    Raises:
        UserError: there are none, one is damaged, or an image has no class or several.
    """
    if config.root is None:
        raise UserError("--data.source tars needs --data.root: a folder of tar files, or shards/train-{000..146}.tar")
    shards = find_shards(config, is_shard=lambda name: name.endswith(".tar"), example=".tar")
    key = config.label_column or "label"
    suffixes = image_suffixes(config.channels)
    kind = ShardKind(name="tars", key=f"{key} {sorted(suffixes)}", build=partial(_build_index, key, suffixes))
    names = config.class_names or _class_names(config.root, is_folder=bool(config.splits))
    return open_shards(shards, kind, names=names, origin=as_typed(config.root))


def _class_names(root: Path, *, is_folder: bool) -> tuple[str, ...]:
    """The lines of `classes.txt` beside the shards, if it exists.

    Args:
        root: the folder of the shards, or a pattern.
        is_folder: whether it is known to be a folder; else, a URL without a suffix is one.
    """
    if is_pipe(str(root)):
        return ()
    if url := as_url(root):
        folder = url if is_folder or "." not in root.name else url.rpartition("/")[0]
        text = (read_if_there(f"{folder}/classes.txt") or b"").decode(errors="replace")
    else:
        file = (root if root.is_dir() else root.parent) / "classes.txt"
        text = file.read_text() if file.is_file() else ""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _build_index(key: str, suffixes: Set[str], file: str, stream: BufferedReader, size: int) -> Index:
    """Reads every header of a shard, and the members that contain classes."""
    samples = []
    for name, parts in groupby(_members(file, stream, size), key=lambda member: _stem(member.name)):
        by_suffix = {_suffix(part.name): part for part in parts}
        samples.append(_sample(f"{file}: {name}", by_suffix, stream, key, suffixes))
    images = [sample for sample in samples if sample is not None]
    if not images:
        raise UserError(f"{file} has no images: leave it out, or download it again")
    labels = [label for _, label in images]
    words = any(isinstance(label, str) for label in labels)
    return Index(
        offsets=np.array([image.offset_data for image, _ in images], np.int64),
        sizes=np.array([image.size for image, _ in images], np.int64),
        labels=np.array([str(label) for label in labels]) if words else np.array(labels, np.int64),
    )


def _members(file: str, stream: BufferedReader, size: int) -> Iterator[tarfile.TarInfo]:
    """Regular members in order. Truncation is checked here: `tarfile` takes a truncated shard for a complete one."""
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                if member.offset_data + member.size > size:
                    raise UserError(f"{file} is truncated inside {member.name}: download it again")
                if member.isfile() and not Path(member.name).name.startswith("."):
                    yield member
            end = tar.offset
    except tarfile.TarError as error:
        raise UserError(f"{file} is not a tar file, or damaged ({error}): download it again, unpacked if .gz") from None
    stream.seek(end)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise UserError(f"{file} is damaged or truncated at byte {end}: download it again")


def _stem(name: str) -> str:
    """The name without its suffix, which starts at the first dot after the last slash."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.split(".", 1)[0]


def _suffix(name: str) -> str:
    return f".{name.rpartition('/')[2].partition('.')[2]}".lower()


def _sample(
    name: str, parts: dict[str, tarfile.TarInfo], stream: BufferedReader, key: str, suffixes: Set[str]
) -> tuple[tarfile.TarInfo, int | str] | None:
    """The image of a sample and its class; None if it has no image."""
    images = [suffix for suffix in parts if suffix in suffixes]
    if not images:
        return None
    if len(images) > 1:
        raise UserError(f"{name} has several images, {', '.join(images)}: each name must have only one")
    for suffix in (".cls", ".json"):
        if suffix in parts:
            stream.seek(parts[suffix].offset_data)
            label = _label(stream.read(parts[suffix].size), key, plain=suffix == ".cls")
            if label is not None:
                return parts[images[0]], label
    raise UserError(f"{name} has no class: add its .cls, or give its key in .json as --data.label-column")


def _label(content: bytes, key: str, *, plain: bool) -> int | str | None:
    """A class, as a number if it is one, else as a word."""
    try:
        value = content.decode().strip() if plain else parse_json(content, origin="its .json").get(key)
    except (ValueError, AttributeError):
        return None
    if isinstance(value, str) and re.fullmatch(r"-?\d+", value):
        return int(value)
    return value if isinstance(value, int | str) and not isinstance(value, bool) and value != "" else None
