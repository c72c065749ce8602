"""States of a source's images, which change when an image does; no image is decoded."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from vitral.data.images.decode import UnreadableImage
from vitral.data.sources.remote import RemoteFile
from vitral.data.sources.shards import ShardSource
from vitral.data.sources.source import ConcatSource, MappedSource, Source, Subset, read_ahead

__all__ = ["image_states"]

SAMPLED = 256
"""Images whose content is compared, if they are neither in files of their own nor in shards."""


def image_states(source: Source) -> Iterator[bytes]:
    """Size and date of each file or shard, and where images are in it; the content of at most 256 images of others."""
    match source:
        case Subset():
            yield source.indices.astype("<i8").tobytes()
            yield from image_states(source.source)
        case ConcatSource():
            yield from image_states(source.first)
            yield from image_states(source.second)
        case MappedSource():
            yield from _stored_states(source)
            yield from image_states(source.source)
        case ShardSource():
            yield source.offsets.astype("<i8").tobytes()
            for shard in source.shards:
                yield f"{shard} {_version(shard)}\n".encode()
        case _:
            yield from _stored_states(source)


def _version(file: Path | RemoteFile) -> str:
    if isinstance(file, RemoteFile):
        return f"{file.size} {file.version}"
    try:
        state = file.stat()
    except OSError:
        return "missing"
    return f"{state.st_size} {state.st_mtime_ns}"


def _stored_states(source: Source) -> Iterator[bytes]:
    sample = np.unique(np.linspace(0, len(source) - 1, SAMPLED).astype(np.int64))
    read_ahead(source, sample)
    in_files = isinstance(_stored(source, 0), Path)
    for index in range(len(source)) if in_files else sample.tolist():
        match _stored(source, index):
            case Path() as file:
                yield os.fsencode(f"{file} {_version(file)}\n")
            case Image.Image() as image:
                yield image.tobytes()
            case bytes() as content:
                yield content
            case None:
                yield b"unreadable"


def _stored(source: Source, index: int) -> Path | bytes | Image.Image | None:
    try:
        return source.stored(index)
    except UnreadableImage:
        return None
