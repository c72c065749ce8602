"""Shards: large files with many images each, of which an image is a range of bytes.

An index says where the images are and what their classes are. It is built once for each shard, and cached until the
shard changes.
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from vitral.data.images.decode import read_range
from vitral.data.notes import note_once
from vitral.data.sources.find_shards import ShardFile
from vitral.data.sources.labels import encode_labels
from vitral.data.sources.remote import RemoteFile, RemoteStream, read_ranges
from vitral.data.sources.source import Source
from vitral.errors import UserError, one_line, translate_parser_errors
from vitral.files import cache_folder, locked, write_atomically

__all__ = ["Index", "ShardKind", "ShardSource", "open_shards"]

INDEX_THREADS = 16
"""Shards that are indexed concurrently."""

LARGE = 100_000_000
"""Bytes of shards that are indexed without a note."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardSource:
    """Images inside shards."""

    shards: tuple[ShardFile, ...]
    starts: Int64[np.ndarray, " shards"]
    """Index of each shard's first image."""
    offsets: Int64[np.ndarray, " n"]
    """Offset of each image in its shard, in bytes."""
    sizes: Int64[np.ndarray, " n"]
    """Size of each image in bytes."""
    labels: Int64[np.ndarray, " n"]
    classes: tuple[str, ...]
    fetched: dict[int, bytes] = field(default_factory=dict, init=False, repr=False)
    """Images that were read ahead, by index."""

    def __len__(self) -> int:
        return len(self.offsets)

    def stored(self, index: int) -> bytes:
        """See `Source`."""
        if (content := self.fetched.get(index)) is not None:
            return content
        shard, offset, size = self._range(index)
        if isinstance(shard, RemoteFile):
            return read_ranges([(shard, offset, size)])[0]
        return read_range(shard, offset, size, name=self.name(index))

    def name(self, index: int) -> str:
        """See `Source`."""
        shard = self._shard(index)
        return f"{self.shards[shard]}[{index - int(self.starts[shard])}]"

    def read_ahead(self, indices: Int64[np.ndarray, " b"]) -> None:
        """Reads the images of a batch from their server at once, in place of those of the last call."""
        self.fetched.clear()
        if isinstance(self.shards[0], RemoteFile):
            wanted = sorted({int(index) for index in indices})
            parts: list[Any] = [self._range(index) for index in wanted]
            self.fetched.update(zip(wanted, read_ranges(parts), strict=True))

    def _range(self, index: int) -> tuple[ShardFile, int, int]:
        return self.shards[self._shard(index)], int(self.offsets[index]), int(self.sizes[index])

    def _shard(self, index: int) -> int:
        return int(np.searchsorted(self.starts, index, side="right")) - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Index:
    """Offsets, sizes and classes of the images of one shard."""

    offsets: Int64[np.ndarray, " n"]
    sizes: Int64[np.ndarray, " n"]
    labels: np.ndarray
    """Integers, or words."""


@dataclass(frozen=True, kw_only=True)
class ShardKind:
    """A format of shards."""

    name: str
    """Its name in the cache."""
    key: str
    """What an index depends on besides the shard, such as the name of the labels."""
    build: Callable[[str, BufferedReader, int], Index]
    """Builds an index from the shard's name, its content and its size; raises `UserError` if it is damaged."""


def open_shards(
    shards: Mapping[str, tuple[ShardFile, ...]], kind: ShardKind, *, names: tuple[str, ...], origin: str
) -> dict[str, Source]:
    """The images of each split.

    Args:
        shards: files of each split, in order.
        kind: their format.
        names: names of the classes, as in `encode_labels`.
        origin: name of the data in errors.

    Raises:
        UserError: a shard is damaged, or an image has no class.
        OSError: a shard cannot be read.
    """
    indices = {split: _indices(files, kind) for split, files in shards.items()}
    raw = {split: np.concatenate([index.labels for index in parts]) for split, parts in indices.items()}
    numeric = {labels.dtype.kind in "iu" for labels in raw.values()}
    if len(numeric) > 1:
        raise UserError(f"{origin} has classes as numbers in some splits and as words in others: use one of the two")
    classes, labels = encode_labels(raw, names=names, origin=origin)
    return {
        split: ShardSource(
            shards=shards[split],
            starts=np.cumsum([0, *(len(index.sizes) for index in parts[:-1])]),
            offsets=np.concatenate([index.offsets for index in parts]),
            sizes=np.concatenate([index.sizes for index in parts]),
            labels=labels[split],
            classes=classes,
        )
        for split, parts in indices.items()
    }


def _indices(files: tuple[ShardFile, ...], kind: ShardKind) -> list[Index]:
    """The index of each shard, from the cache or built."""
    with ThreadPoolExecutor(INDEX_THREADS) as pool:
        try:
            entries = list(pool.map(lambda file: _Entry.read(file, kind), files))
            missing = [number for number, entry in enumerate(entries) if entry.index is None]
            if missing:
                # several training processes would all read all shards
                cache_folder().mkdir(parents=True, exist_ok=True)
                with locked(cache_folder() / f"{kind.name}.lock"):
                    built = _build([files[number] for number in missing], kind, pool)
                found = dict(zip(missing, built, strict=True))
                return [entry.index or found[number] for number, entry in enumerate(entries)]
            return [entry.index for entry in entries if entry.index is not None]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _build(files: list[ShardFile], kind: ShardKind, pool: ThreadPoolExecutor) -> list[Index]:
    """Builds the indices that no other process has built; notes changed shards, and what takes long."""
    entries = list(pool.map(lambda file: _Entry.read(file, kind), files))
    changed = [entry.file for entry in entries if entry.is_stale]
    missing = [entry for entry in entries if entry.index is None]
    size = sum(entry.size for entry in missing)
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        note_once(f"{changed[0]}{more} changed since the last time: indexed again")
    if size > LARGE:
        note_once(f"{len(missing)} shards of {size / 1e9:.1f} GB are read once, to index them")
    return list(pool.map(lambda entry: entry.index or entry.build(kind), entries))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Entry:
    """A shard and its place in the cache."""

    file: ShardFile
    size: int
    version: str
    cached: Path
    index: Index | None
    """None: it is not in the cache, or of another version of the shard."""
    is_stale: bool
    """Whether the cache has the index of another version."""

    @classmethod
    def read(cls, file: ShardFile, kind: ShardKind) -> "_Entry":
        if isinstance(file, RemoteFile):
            name, size, version = file.url, file.size, file.version
        else:
            state = file.stat()
            name, size, version = str(file.resolve()), state.st_size, str(state.st_mtime_ns)
        if not version:
            note_once(f"{name}: the server gives neither ETag nor date, so only a change of the size is noticed")
        digest = hashlib.sha256(os.fsencode(f"2 {name} {kind.key}")).hexdigest()[:32]
        cached = cache_folder() / kind.name / f"{digest}.npz"
        index, before = _load(cached) if cached.is_file() else (None, "")
        is_stale = index is not None and before != f"{size} {version}"
        return cls(
            file=file, size=size, version=version, cached=cached, index=None if is_stale else index, is_stale=is_stale
        )

    def build(self, kind: ShardKind) -> Index:
        """Reads the shard and caches its index."""
        file = self.file
        opened = BufferedReader(RemoteStream(file)) if isinstance(file, RemoteFile) else file.open("rb")
        with opened as stream:
            index = kind.build(str(self.file), stream, self.size)  # pyright: ignore[reportArgumentType]
        state = np.array(f"{self.size} {self.version}")
        self.cached.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(
            self.cached,
            lambda cache: np.savez(cache, state=state, offsets=index.offsets, sizes=index.sizes, labels=index.labels),
        )
        return index


def _load(cached: Path) -> tuple[Index | None, str]:
    """An index and the state of its shard; None if the file is damaged."""
    try:
        # NumPy leaves a damaged file open that it has opened itself
        with translate_parser_errors(one_line), cached.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            index = Index(offsets=arrays["offsets"], sizes=arrays["sizes"], labels=arrays["labels"])
            return index, str(arrays["state"])
    except UserError:
        return None, ""
