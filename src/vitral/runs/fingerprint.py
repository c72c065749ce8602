"""Noticing that the data of a run is not what it was."""

import hashlib
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from PIL import Image

from vitral.data.images.decode import UnreadableImage
from vitral.data.sources.source import Changed, FileSource, Joined, Source, Subset

__all__ = ["contents", "fingerprint"]

SAMPLED = 256
"""Images that are looked at where they are no files of their own."""

AT_ONCE = 1 << 16
"""Labels or names that are hashed together."""


def fingerprint(source: Source) -> str:
    """Number of images and classes, and a hash of labels, class names and file names; no image is read."""
    digest = hashlib.sha256("\0".join(source.classes).encode(errors="surrogateescape"))
    for part in chain(_numbers(source.labels), _parts(source)):
        digest.update(part)
    return f"{len(source)} images, {len(source.classes)} classes, {digest.hexdigest()[:16]}"


def _parts(source: Source) -> Iterator[bytes]:
    """Which images a source is made of: places in other sources, and names of files."""
    match source:
        case Subset():
            yield from _numbers(source.indices)
            yield from _parts(source.source)
        case Joined():
            yield from _parts(source.first)
            yield from _parts(source.second)
        case FileSource():
            for start in range(0, len(source.files), AT_ONCE):
                names = "\0".join(source.files[start : start + AT_ONCE])
                yield os.fsencode(names if start == 0 else f"\0{names}")


def _numbers(numbers: Int64[np.ndarray, " n"]) -> Iterator[bytes]:
    """Integers a part at a time: of ten million images a copy of all labels is 80 MB."""
    for start in range(0, len(numbers), AT_ONCE):
        yield numbers[start : start + AT_ONCE].astype("<i8").tobytes()


def contents(source: Source) -> str:
    """A hash of the images: of each file its size and the time it was written, of others 256 by what they hold."""
    digest = hashlib.sha256()
    count = len(source)
    in_files = count > 0 and isinstance(_stored(source, 0), Path)
    for index in range(0, count, 1 if in_files else max(1, count // SAMPLED)):
        match _stored(source, index):
            case Path() as file:
                digest.update(_state(file))
            case Image.Image() as image:
                digest.update(image.tobytes())
            case bytes() as read:
                digest.update(read)
            case None:
                digest.update(b"unreadable")
    return digest.hexdigest()


def _stored(source: Source, index: int) -> Path | bytes | Image.Image | None:
    """An image as it is stored, before anything changes it; None where it cannot be had."""
    while isinstance(source, Subset | Changed):
        if isinstance(source, Subset):
            index = int(source.indices[index])
        source = source.source
    try:
        return source.stored(index)
    except (UnreadableImage, OSError):
        return None


def _state(file: Path) -> bytes:
    """Size and time of writing."""
    try:
        found = file.stat()
    except OSError:
        return b"missing"
    return f"{found.st_size} {found.st_mtime_ns},".encode()
