"""Fingerprints that detect changes in the data of a run."""

import hashlib
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from PIL import Image

from vitral.data.cache import CachedSource
from vitral.data.images.decode import UnreadableImage
from vitral.data.sources.source import ConcatSource, FileSource, Labels, MappedSource, Source, Subset

__all__ = ["contents", "fingerprint"]

MAX_HASHED = 256
"""Maximum number of images to hash if they are not separate files."""

CHUNK = 1 << 16
"""Number of labels or names that are hashed together."""


def fingerprint(source: Source) -> str:
    """Number of images and classes, and a hash of labels, class names and file names. No image is read."""
    digest = hashlib.sha256("\0".join(source.classes).encode(errors="surrogateescape"))
    for part in chain(_numbers(source.labels), _parts(source)):
        digest.update(part)
    return f"{len(source)} images, {len(source.classes)} classes, {digest.hexdigest()[:16]}"


def _parts(source: Source) -> Iterator[bytes]:
    """The images of a source: indices in other sources, and file names."""
    match source:
        case Subset():
            yield from _numbers(source.indices)
            yield from _parts(source.source)
        case CachedSource():
            yield from _parts(source.source)
        case ConcatSource():
            yield from _parts(source.first)
            yield from _parts(source.second)
        case FileSource():
            for start in range(0, len(source.files), CHUNK):
                names = "\0".join(source.files[start : start + CHUNK])
                yield os.fsencode(names if start == 0 else f"\0{names}")


def _numbers(numbers: Labels) -> Iterator[bytes]:
    """Numbers in chunks, as the labels of ten million images take 80 MB."""
    kind = "<i8" if numbers.dtype.kind == "i" else "<f4"
    for start in range(0, len(numbers), CHUNK):
        yield numbers[start : start + CHUNK].astype(kind).tobytes()


def contents(source: Source) -> str:
    """A hash of the images: size and modification time of each file, or the content of at most 256 images in memory."""
    digest = hashlib.sha256()
    count = len(source)
    in_files = count > 0 and isinstance(_stored(source, 0), Path)
    for index in range(0, count, 1 if in_files else max(1, count // MAX_HASHED)):
        match _stored(source, index):
            case Path() as file:
                digest.update(_file_state(file))
            case Image.Image() as image:
                digest.update(image.tobytes())
            case bytes() as content:
                digest.update(content)
            case None:
                digest.update(b"unreadable")
    return digest.hexdigest()


def _stored(source: Source, index: int) -> Path | bytes | Image.Image | None:
    """An image as stored, before any changes; None if it cannot be read."""
    while isinstance(source, Subset | MappedSource | CachedSource):
        if isinstance(source, Subset):
            index = int(source.indices[index])
        source = source.source
    try:
        return source.stored(index)
    except (UnreadableImage, OSError):
        return None


def _file_state(file: Path) -> bytes:
    """Size and modification time."""
    try:
        status = file.stat()
    except OSError:
        return b"missing"
    return f"{status.st_size} {status.st_mtime_ns},".encode()
