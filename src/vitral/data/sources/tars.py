"""Tar shards in the WebDataset format: files that differ only in their suffix belong to one sample.

`dog/0001.jpg` and `dog/0001.cls` are an image and its class. Images are read by offset, from an index that is built
once from the shard's headers and cached until the shard changes.
"""

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Int64

from vitral.data.config import ROLES, DataConfig
from vitral.data.images.bands import image_suffixes
from vitral.data.images.decode import IMAGE_SUFFIXES, read_range
from vitral.data.sources.folder import SPLITS
from vitral.data.sources.labels import encode_labels
from vitral.data.sources.source import Source
from vitral.errors import UserError
from vitral.files import write_atomically

__all__ = ["TarSource", "open_tars"]

INDEX_THREADS = 8
"""Shards that are indexed concurrently."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TarSource:
    """Images inside uncompressed tar files."""

    shards: tuple[Path, ...]
    starts: Int64[np.ndarray, " shards"]
    """Index of each shard's first image."""
    offsets: Int64[np.ndarray, " n"]
    """Offset of each image in its shard, in bytes."""
    sizes: Int64[np.ndarray, " n"]
    """Size of each image in bytes."""
    labels: Int64[np.ndarray, " n"]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.offsets)

    def stored(self, index: int) -> bytes:
        """See `Source`."""
        shard = self.shards[self._shard(index)]
        return read_range(shard, int(self.offsets[index]), int(self.sizes[index]), name=self.name(index))

    def name(self, index: int) -> str:
        """See `Source`."""
        shard = self._shard(index)
        return f"{self.shards[shard]}[{index - int(self.starts[shard])}]"

    def _shard(self, index: int) -> int:
        return int(np.searchsorted(self.starts, index, side="right")) - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Index:
    """Offsets, sizes and classes of the images of one shard."""

    offsets: Int64[np.ndarray, " n"]
    sizes: Int64[np.ndarray, " n"]
    labels: np.ndarray
    """Integers, or words."""


def open_tars(config: DataConfig) -> dict[str, Source]:
    """Opens shards: a folder of them, or a pattern such as `shards/train-{000..146}.tar`.

    Raises:
        UserError: there are none, one is damaged, or an image has no class or several.
    """
    if config.root is None:
        raise UserError("--data.source tars needs --data.root: a folder of tar files, or shards/train-{000..146}.tar")
    shards = _shards(config)
    key = config.label_column or "label"
    indices = {split: _indices(files, key, image_suffixes(config.channels)) for split, files in shards.items()}
    raw = {split: np.concatenate([index.labels for index in parts]) for split, parts in indices.items()}
    numeric = {labels.dtype.kind in "iu" for labels in raw.values()}
    if len(numeric) > 1:
        raise UserError(
            f"{config.root} has classes as numbers in some splits and as words in others: use one of the two"
        )
    classes, labels = encode_labels(raw, names=config.class_names or _class_names(config.root), origin=str(config.root))
    return {
        split: TarSource(
            shards=shards[split],
            starts=np.cumsum([0, *(len(index.sizes) for index in parts[:-1])]),
            offsets=np.concatenate([index.offsets for index in parts]),
            sizes=np.concatenate([index.sizes for index in parts]),
            labels=labels[split],
            classes=classes,
        )
        for split, parts in indices.items()
    }


def _class_names(root: Path) -> tuple[str, ...]:
    """The lines of `classes.txt` beside the shards, if it exists."""
    file = (root if root.is_dir() else root.parent) / "classes.txt"
    return tuple(line.strip() for line in file.read_text().splitlines() if line.strip()) if file.is_file() else ()


def _shards(config: DataConfig) -> dict[str, tuple[Path, ...]]:
    """Files of each split, in order."""
    assert config.root is not None
    root = config.root
    if config.splits:
        given = dict(entry.split("=", 1) for entry in config.splits)
        return {split: _expand(root / given[split]) for split in ROLES if split in given}
    if not root.is_dir():
        return {"train": _expand(root)}
    files = sorted(root.rglob("*.tar"))
    if not files:
        raise UserError(f"{root} has no .tar files: unpack compressed ones (.tar.gz), or give another --data.root")
    by_split: dict[str | None, list[Path]] = {}
    for file in files:
        words = re.split(r"[^a-z]+", str(file.relative_to(root)).lower())
        by_split.setdefault(next((SPLITS[word] for word in words if word in SPLITS), None), []).append(file)
    if list(by_split) == [None]:
        return {"train": tuple(files)}
    if None in by_split or "train" not in by_split:
        unclear = by_split.get(None, files)[0]
        raise UserError(
            f"{root}: the split of {unclear.name} is unclear, so give it, such as "
            "--data.splits train=train-{000..146}.tar test=val-*.tar"
        )
    return {split: tuple(by_split[split]) for split in ROLES if split in by_split}


def _expand(pattern: Path) -> tuple[Path, ...]:
    """The files that match a pattern with `{000..146}`, `{a,b}`, `*` or `?`; all files of a range must exist."""
    names = list(_braces(str(pattern)))
    files = [Path(name) for name in names if not re.search(r"[*?]", name)]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise UserError(f"{missing[0]} does not exist: fetch it, or change --data.root or --data.splits")
    for name in names:
        if re.search(r"[*?]", name):
            files += sorted(Path(name).parent.glob(Path(name).name))
    if not files:
        raise UserError(f"{pattern} matches no file: change --data.root or --data.splits")
    return tuple(files)


def _braces(pattern: str) -> Iterator[str]:
    """Expands `{000..146}` and `{a,b}` as a shell does."""
    match = re.search(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}", pattern)
    if match is None:
        yield pattern
        return
    first, last, words = match.groups()
    choices = words.split(",") if words else (f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1))
    for choice in choices:
        yield from _braces(pattern[: match.start()] + choice + pattern[match.end() :])


def _indices(files: tuple[Path, ...], key: str, suffixes: Set[str]) -> list[Index]:
    with ThreadPoolExecutor(INDEX_THREADS) as pool:
        return list(pool.map(lambda file: _index(file, key, suffixes), files))


def _index(file: Path, key: str, suffixes: Set[str]) -> Index:
    """A shard's index, from the cache if it is there and the shard has not changed."""
    state = file.stat()
    identity = f"1 {file.resolve()} {state.st_size} {state.st_mtime_ns} {key}"
    if suffixes != IMAGE_SUFFIXES:
        identity += f" {sorted(suffixes)}"
    cached = _cache() / f"{hashlib.sha256(os.fsencode(identity)).hexdigest()[:32]}.npz"
    if cached.is_file():
        with np.load(cached, allow_pickle=False) as arrays:
            return Index(offsets=arrays["offsets"], sizes=arrays["sizes"], labels=arrays["labels"])
    index = _build_index(file, key, suffixes)
    cached.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(
        cached, lambda stream: np.savez(stream, offsets=index.offsets, sizes=index.sizes, labels=index.labels)
    )
    return index


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vitral" / "tars"


def _build_index(file: Path, key: str, suffixes: Set[str]) -> Index:
    """Reads every header of a shard, and the members that contain classes."""
    with file.open("rb") as stream:
        members = list(_members(file, stream))
        samples = []
        for name, parts in groupby(members, key=lambda member: _stem(member.name)):
            by_suffix = {_suffix(part.name): part for part in parts}
            samples.append(_sample(f"{file}: {name}", by_suffix, stream, key, suffixes))
    images = [sample for sample in samples if sample is not None]
    if not images:
        raise UserError(f"{file} has no images: leave it out, or fetch it again")
    labels = [label for _, label in images]
    words = any(isinstance(label, str) for label in labels)
    return Index(
        offsets=np.array([image.offset_data for image, _ in images], np.int64),
        sizes=np.array([image.size for image, _ in images], np.int64),
        labels=np.array([str(label) for label in labels]) if words else np.array(labels, np.int64),
    )


def _members(file: Path, stream: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """Regular members in order. Truncation is checked here: `tarfile` takes a truncated shard for a complete one."""
    size = file.stat().st_size
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in tar:
                if member.offset_data + member.size > size:
                    raise UserError(f"{file} is truncated inside {member.name}: fetch it again")
                if member.isfile() and not Path(member.name).name.startswith("."):
                    yield member
            end = tar.offset
    except tarfile.TarError as error:
        raise UserError(f"{file} is not a tar file, or damaged ({error}): fetch it again, unpacked if .gz") from None
    stream.seek(end)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise UserError(f"{file} is damaged or truncated at byte {end}: fetch it again")


def _stem(name: str) -> str:
    """The name without its suffix, which starts at the first dot after the last slash."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.split(".", 1)[0]


def _suffix(name: str) -> str:
    return f".{name.rpartition('/')[2].partition('.')[2]}".lower()


def _sample(
    name: str, parts: dict[str, tarfile.TarInfo], stream: BinaryIO, key: str, suffixes: Set[str]
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
        value = content.decode().strip() if plain else json.load(BytesIO(content)).get(key)
    except (UnicodeDecodeError, json.JSONDecodeError, AttributeError):
        return None
    if isinstance(value, str) and re.fullmatch(r"-?\d+", value):
        return int(value)
    return value if isinstance(value, int | str) and not isinstance(value, bool) and value != "" else None
