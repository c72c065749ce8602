"""Packs data into a copy that is fast to read: downsized JPEGs in memory-mapped Arrow files.

The copy is a folder in the format of `datasets.save_to_disk`. Each shard gets its name only once it is complete, so an
interrupted copy can be resumed. The content depends only on the data and the settings.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from shutil import rmtree
from threading import Event
from typing import Any, Literal

from PIL import Image

from vitral.config import read_json
from vitral.data.extra import optional
from vitral.data.images.decode import UnreadableImage, read_image
from vitral.data.images.shrink import is_grey, shrink
from vitral.data.sources.exclude import relative_name
from vitral.data.sources.source import Source
from vitral.data.sources.tables import PACKED, WHOLE
from vitral.data.tools.parallel_map import parallel_map
from vitral.errors import UserError
from vitral.files import write_atomically, write_json

__all__ = ["PackConfig", "Packed", "pack"]

SHARD = 1000
"""Images per shard: few, so that little work is lost when a copy is interrupted."""

BATCH = 50
"""Images per record batch."""


@dataclass(frozen=True, kw_only=True)
class PackConfig:
    """How images are packed.

    Raises:
        UserError: a value is out of range.
    """

    short_side: int | None = None
    """Larger images are resized to this short side and saved as JPEG, in pixels; None: files are copied unchanged."""
    quality: int = 90
    """Quality of the JPEGs that are written, 1 to 100."""
    on_error: Literal["stop", "skip"] = "stop"
    """For unreadable images: stop, or skip and list them."""

    def __post_init__(self) -> None:
        if self.short_side is not None and self.short_side < 1:
            raise UserError(f"--short-side must be at least 1 pixel, not {self.short_side}")
        if not 1 <= self.quality <= 100:
            raise UserError(f"--quality must be 1 to 100, not {self.quality}")


@dataclass(frozen=True, kw_only=True)
class Packed:
    """The result of packing."""

    num_images: dict[str, int]
    """Number of images of each split in the copy."""
    num_bytes: int
    """Size of the copy in bytes."""
    unreadable: tuple[str, ...]
    """One sentence for each skipped image."""
    fresh: bool
    """Whether anything was written."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Consecutive images in one file."""

    split: str
    source: Source
    indices: range
    file: Path

    @property
    def notes(self) -> Path:
        """The JSON file beside it, with the number of images and the unreadable ones."""
        return self.file.with_suffix(".json")


def pack(
    splits: Mapping[str, Source],
    target: Path,
    config: PackConfig,
    *,
    root: Path | None,
    threads: int,
    advance: Callable[[int], None],
) -> Packed:
    """Packs data into `target`, or resumes an interrupted copy.

    Args:
        splits: the data.
        target: a new folder, or one with an incomplete copy of the same data.
        config: how to pack.
        root: folder of the data; names of images are stored relative to it.
        threads: shards that are written concurrently.
        advance: called with the number of images done.

    Raises:
        UserError: `target` has other content, an image is unreadable and `config.on_error` is stop, or all are.
        OSError: the disk is full or not writable.
    """
    optional("datasets", purpose="packing")
    plan = _plan(splits, config, root)
    _claim(target, plan)
    shards = [shard for split, source in splits.items() for shard in _shards(split, source, target)]
    if (target / WHOLE).is_file():
        return _result(target, shards, fresh=False)
    for stale in target.rglob(".*.tmp"):
        stale.unlink()
    features = _features(next(iter(splits.values())).classes)
    stop = Event()

    def tick(count: int) -> None:
        if stop.is_set():
            raise _Stopped
        advance(count)

    for _ in parallel_map(
        lambda shard: _write_shard(shard, config, features, root, tick), shards, threads=threads, stop=stop
    ):
        pass
    result = _result(target, shards, fresh=True)
    if not any(result.num_images.values()):
        rmtree(target)  # else the next try would find nothing left to do
        raise UserError(f"none of the images can be packed: {next(iter(result.unreadable), 'there are none')}")
    for split in splits:
        _describe(target / split, features, [shard.file.name for shard in shards if shard.split == split], plan)
    write_json(target / WHOLE, {"splits": list(splits)})
    return result


class _Stopped(Exception):
    """Another shard has failed, or the user interrupted."""


def _plan(splits: Mapping[str, Source], config: PackConfig, root: Path | None) -> dict[str, Any]:
    """Settings, and a fingerprint of each split's names, labels and classes."""
    fingerprints = {}
    for split, source in splits.items():
        digest = hashlib.sha256("\0".join(source.classes).encode(errors="surrogateescape"))
        digest.update(source.labels.astype("<i8").tobytes())
        for index in range(len(source)):
            digest.update(os.fsencode(relative_name(source.name(index), root)) + b"\0")
        fingerprints[split] = f"{len(source)} images, {digest.hexdigest()[:16]}"
    return {"form": 1, "short_side": config.short_side, "quality": config.quality, "splits": fingerprints}


def _claim(target: Path, plan: dict[str, Any]) -> None:
    """Starts the copy, or checks that the one in `target` has the same plan."""
    record = target / PACKED
    for stale in target.glob(f".{PACKED}.*.tmp"):  # killed before there was a record
        stale.unlink()
    if record.is_file():
        if read_json(record) != plan:
            raise UserError(f"{target} contains a copy of other data or with other settings: choose another folder")
    elif target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} already exists and is not an incomplete copy: choose another folder")
    else:
        target.mkdir(parents=True, exist_ok=True)
        write_json(record, plan)
    for split in plan["splits"]:
        (target / split).mkdir(exist_ok=True)


def _shards(split: str, source: Source, target: Path) -> list[Shard]:
    starts = range(0, len(source), SHARD)
    return [
        Shard(
            split=split,
            source=source,
            indices=range(start, min(start + SHARD, len(source))),
            file=target / split / f"data-{number:05d}-of-{len(starts):05d}.arrow",
        )
        for number, start in enumerate(starts)
    ]


def _features(classes: tuple[str, ...]) -> Any:
    datasets = optional("datasets", purpose="packing")
    return datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(classes))})


def _write_shard(
    shard: Shard, config: PackConfig, features: Any, root: Path | None, advance: Callable[[int], None]
) -> None:
    """Writes a shard, unless it exists."""
    if shard.file.is_file() and shard.notes.is_file():
        advance(len(shard.indices))
        return
    arrow = optional("pyarrow", purpose="packing")
    schema = features.arrow_schema
    count, unreadable = 0, []

    def write(file: Any) -> None:
        nonlocal count
        with arrow.ipc.new_stream(file, schema) as writer:
            for start in shard.indices[::BATCH]:
                indices = range(start, min(start + BATCH, shard.indices.stop))
                rows = _rows(shard.source, indices, config, root, unreadable)
                count += len(rows)
                writer.write_batch(arrow.RecordBatch.from_pylist(rows, schema=schema))
                advance(len(indices))

    write_atomically(shard.file, write)
    # after the shard: a shard without notes is written again
    write_json(shard.notes, {"num_images": count, "unreadable": unreadable})


def _rows(
    source: Source, indices: range, config: PackConfig, root: Path | None, unreadable: list[str]
) -> list[dict[str, Any]]:
    rows = []
    for index in indices:
        name = source.name(index)
        try:
            content = _content(source.stored(index), name, config)
        except UnreadableImage as error:
            if config.on_error == "stop":
                raise UserError(f"{error}; remove it, or skip such images with --data.on-error skip") from error
            unreadable.append(str(error))
            continue
        path = os.fsencode(relative_name(name, root)).decode(errors="replace")
        rows.append({"image": {"bytes": content, "path": path}, "label": int(source.labels[index])})
    return rows


def _content(stored: Path | bytes | Image.Image, name: str, config: PackConfig) -> bytes:
    """The bytes of an image: its own file if it is small enough, else a JPEG; pixels become a PNG."""
    image = read_image(stored, channels=3, name=name)  # also if its bytes are copied: finds damaged files now
    if config.short_side is not None and min(image.size) > config.short_side:
        if is_grey(stored, name):
            image = read_image(stored, channels=1, name=name)
        return _encode(shrink(image, config.short_side), "JPEG", quality=config.quality)
    if isinstance(stored, Image.Image):
        return _encode(stored, "PNG")
    return stored if isinstance(stored, bytes) else stored.read_bytes()


def _encode(image: Image.Image, format_name: str, **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, format_name, **options)
    return stream.getvalue()


def _describe(folder: Path, features: Any, files: list[str], plan: dict[str, Any]) -> None:
    """The two files that `datasets` needs beside the Arrow files."""
    fingerprint = hashlib.sha256(f"{json.dumps(plan)} {folder.name}".encode()).hexdigest()[:16]
    write_json(folder / "dataset_info.json", {"features": features.to_dict()})
    state = {
        "_data_files": [{"filename": name} for name in files],
        "_fingerprint": fingerprint,
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": folder.name,
    }
    write_json(folder / "state.json", state)


def _result(target: Path, shards: list[Shard], *, fresh: bool) -> Packed:
    counts = dict.fromkeys((shard.split for shard in shards), 0)
    unreadable: list[str] = []
    for shard in shards:
        notes = read_json(shard.notes)
        counts[shard.split] += notes["num_images"]
        unreadable += notes["unreadable"] if "unreadable" in notes else notes["broken"]  # the older name
    size = sum(shard.file.stat().st_size for shard in shards)
    return Packed(num_images=counts, num_bytes=size, unreadable=tuple(unreadable), fresh=fresh)
