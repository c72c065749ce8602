"""A cache of decoded images, in memory or on a local disk, that all reading processes share.

Results are equal to those without a cache unless images are shrunk. So a JPEG that is not shrunk is kept as its file:
training decodes only the part of it that a crop needs. Other files are kept as pixels, in 8 bits, grey or colour.
"""

import hashlib
import os
import shutil
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import PIL
from jaxtyping import Int64
from PIL import Image

from vitral.data.config import DataConfig
from vitral.data.images.decode import UnreadableImage, decoding, open_image, read_image
from vitral.data.images.shrink import is_grey, shrink
from vitral.data.notes import note_once
from vitral.data.sources.source import Labels, Source, read_ahead
from vitral.data.sources.states import image_states
from vitral.data.tools.parallel_map import parallel_map
from vitral.device import free_memory
from vitral.errors import UserError, one_line, translate_parser_errors
from vitral.files import locked, write_atomically

__all__ = ["CachedSource", "cache_images"]

SAMPLED = 64
"""Images of each split that are decoded to estimate the size."""

FILLED = 0.9
"""Fraction of the free memory or disk that a cache may take."""

CHUNK = 256
"""Images that are read ahead together."""

THREADS = 8
"""Threads that decode."""

PIXEL_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA"})
"""Pillow's modes whose pixels are kept; of other modes, the file."""

JPEG = b"\xff\xd8"
"""First bytes of a JPEG."""

ABSENT, FILE, GREY, COLOUR = 0, 1, 2, 3
"""What an entry is: nothing, the bytes of a file, or pixels."""


class Entry(NamedTuple):
    """One image of a cache."""

    kind: int
    content: bytes
    size: tuple[int, int] = (0, 0)
    """Width and height of pixels."""


class Form(NamedTuple):
    """How a cache holds images."""

    side: int | None
    """Short side to which larger ones are shrunk."""
    bands: bool
    """Whether they have any number of channels, and stay files."""


class Layout(NamedTuple):
    """Where the images are in a cache's file: the fields of a `CachedSource`."""

    kinds: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray


class MappedFile:
    """A file in the memory of all processes that read it."""

    def __init__(self, path: str, descriptor: int | None = None) -> None:
        self.path = path
        self.bytes = np.memmap(path, np.uint8, "r")
        if descriptor is not None:  # of a file without a name, which lives as long as this object
            weakref.finalize(self, os.close, descriptor)

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return type(self), (self.path,)


@dataclass(frozen=True, kw_only=True, eq=False)
class CachedSource:
    """Another source with its images in a cache."""

    source: Source
    file: MappedFile
    kinds: Int64[np.ndarray, " n"]
    starts: Int64[np.ndarray, " n+1"]
    """Offset of each image in the file, and the end."""
    sizes: Int64[np.ndarray, "n 2"]
    """Width and height of pixels."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each class."""
        return self.source.classes

    @property
    def labels(self) -> Labels:
        """See `Labels`."""
        return self.source.labels

    def __len__(self) -> int:
        return len(self.source)

    def stored(self, index: int) -> Path | bytes | Image.Image:
        """See `Source`."""
        kind = int(self.kinds[index])
        if kind == ABSENT:
            return self.source.stored(index)
        content = self.file.bytes[self.starts[index] : self.starts[index + 1]]
        if kind == FILE:
            return content.tobytes()
        width, height = self.sizes[index].tolist()
        return Image.fromarray(content.reshape((height, width) if kind == GREY else (height, width, 3)))

    def name(self, index: int) -> str:
        """See `Source`."""
        return self.source.name(index)

    def read_ahead(self, indices: Int64[np.ndarray, " b"]) -> None:
        """See `vitral.data.sources.source.read_ahead`."""
        absent = indices[self.kinds[indices] == ABSENT]
        if len(absent):
            read_ahead(self.source, absent)


def cache_images(splits: Mapping[str, Source], config: DataConfig, *, processes: int = 1) -> dict[str, Source]:
    """The splits with their images in the cache of a configuration, if it has one; says what that takes first.

    Only training images are shrunk, so that evaluations are comparable with others.

    Args:
        splits: the data.
        config: names the cache.
        processes: number of training processes.

    Raises:
        UserError: there is too little memory or disk, or no way to share memory.
        OSError: the disk is full or not writable, or images cannot be fetched.
    """
    if config.cache is None:
        return dict(splits)
    forms = {split: Form(config.cache_side if split == "train" else None, bool(config.channels)) for split in splits}
    if config.cache.lower() == "ram":
        if processes > 1:
            raise UserError(
                "--data.cache ram would hold the images once in each training process: give a folder that they share, "
                "such as /dev/shm/vitral"
            )
        if not hasattr(os, "memfd_create"):
            raise UserError("--data.cache ram needs Linux: give a folder")
        _check_room(splits, forms, free=free_memory(), place="memory")
        return {split: _in_memory(source, forms[split]) for split, source in splits.items()}
    folder = Path(config.cache).expanduser()
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: give ram or a folder as --data.cache")
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Source] = {}
    with locked(folder / ".lock"):
        targets = {split: folder / f"{_key(source, forms[split])}.images" for split, source in splits.items()}
        missing = {split: source for split, source in splits.items() if not _is_complete(targets[split], len(source))}
        if missing:
            _check_room(missing, forms, free=shutil.disk_usage(folder).free, place=str(folder))
        for split, source in splits.items():
            if split in missing:
                _on_disk(source, forms[split], targets[split])
            layout = _load(targets[split])
            assert layout is not None
            found[split] = CachedSource(source=source, file=MappedFile(str(targets[split])), **layout._asdict())
    return found


def _check_room(splits: Mapping[str, Source], forms: Mapping[str, Form], *, free: int, place: str) -> None:
    """Says how much the cache takes, by a sample of the images.

    Raises:
        UserError: there is too little room.
    """
    size = 0
    for split, source in splits.items():
        sample = np.unique(np.linspace(0, len(source) - 1, SAMPLED).astype(np.int64))
        sizes = [len(entry.content) for entry in _entries(source, forms[split], sample)]
        size += round(len(source) * sum(sizes) / len(sizes))
    count = sum(map(len, splits.values()))
    about = f"{count:,} images take about {_amount(size)} of {_amount(free)} free in {place}"
    if size > FILLED * free:
        raise UserError(f"{about}: give a smaller --data.cache-side, another --data.cache, or none")
    side = forms["train"].side if "train" in forms else None
    shrunk = "" if side is None else f"; larger training images are shrunk to a short side of {side} pixels"
    note_once(f"caching: {about}{shrunk}")


def _amount(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def _entries(source: Source, form: Form, indices: Int64[np.ndarray, " m"]) -> Iterator[Entry]:
    """The entries of images, in order; decoded in threads."""
    for start in range(0, len(indices), CHUNK):
        chunk = indices[start : start + CHUNK]
        read_ahead(source, chunk)
        threads = min(THREADS, os.cpu_count() or 1)
        yield from parallel_map(lambda index: _entry(source, int(index), form), chunk.tolist(), threads=threads)


def _entry(source: Source, index: int, form: Form) -> Entry:
    """An image as the cache keeps it; an unreadable one is left to the source, whose error names it."""
    name = source.name(index)
    try:
        stored = source.stored(index)
        if isinstance(stored, Path):
            with decoding(name):
                stored = stored.read_bytes() if stored.is_file() else b""
        if form.bands:
            return Entry(FILE, stored) if isinstance(stored, bytes) else Entry(ABSENT, b"")
        size, keeps_file, has_profile = _inspect(stored, name)
        shrinks = form.side is not None and min(size) > form.side
        is_exact = not shrinks and isinstance(stored, bytes) and (has_profile or stored.startswith(JPEG))
        if keeps_file or is_exact:
            return Entry(FILE, stored) if isinstance(stored, bytes) else Entry(ABSENT, b"")
        grey = is_grey(stored, name)
        image = read_image(stored, channels=1 if grey else 3, name=name)
    except UnreadableImage:
        return Entry(ABSENT, b"")
    if form.side is not None and shrinks:
        image = shrink(image, form.side)
    return Entry(GREY if grey else COLOUR, image.tobytes(), image.size)


def _inspect(stored: bytes | Image.Image, name: str) -> tuple[tuple[int, int], bool, bool]:
    """Width and height; whether pixels of 8 bits, grey or colour, could lose something; whether it has a profile."""
    if isinstance(stored, Image.Image):
        return stored.size, stored.mode not in PIXEL_MODES, False
    with decoding(name), open_image(BytesIO(stored), name=name) as image:
        keeps_file = image.mode not in PIXEL_MODES or image.format == "TIFF"
        return image.size, keeps_file, "icc_profile" in image.info


def _write(source: Source, form: Form, stream: BinaryIO) -> Layout:
    """Writes every image."""
    kinds, lengths, sizes = [], [], []
    for entry in _entries(source, form, np.arange(len(source))):
        stream.write(entry.content)
        kinds.append(entry.kind)
        lengths.append(len(entry.content))
        sizes.append(entry.size)
    if not sum(lengths):
        stream.write(b"\0")  # an empty file cannot be mapped
    return Layout(np.array(kinds, np.int64), np.cumsum([0, *lengths]), np.array(sizes, np.int64))


def _in_memory(source: Source, form: Form) -> CachedSource:
    """In a file without a name, which the operating system forgets with its last process, however that ends."""
    descriptor = os.memfd_create("vitral")
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as stream:
            layout = _write(source, form, stream)
    except BaseException:
        os.close(descriptor)
        raise
    # other processes find it here, whether they are forked or not
    path = f"/proc/{os.getpid()}/fd/{descriptor}"
    return CachedSource(source=source, file=MappedFile(path, descriptor), **layout._asdict())


def _on_disk(source: Source, form: Form, target: Path) -> None:
    layouts: list[Layout] = []
    write_atomically(target, lambda stream: layouts.append(_write(source, form, stream)))
    kinds, starts, sizes = layouts[0]
    # last: a cache without its layout is written again
    write_atomically(
        target.with_suffix(".npz"), lambda stream: np.savez(stream, kinds=kinds, starts=starts, sizes=sizes)
    )


def _load(target: Path) -> Layout | None:
    """The layout of a cache; None if it is absent or damaged."""
    try:
        # NumPy leaves a damaged file open that it has opened itself
        with (
            translate_parser_errors(one_line),
            target.with_suffix(".npz").open("rb") as file,
            np.load(file, allow_pickle=False) as arrays,
        ):
            return Layout(arrays["kinds"], arrays["starts"], arrays["sizes"])
    except (FileNotFoundError, UserError):
        return None


def _is_complete(target: Path, count: int) -> bool:
    layout = _load(target)
    if layout is None or len(layout.kinds) != count or not target.is_file():
        return False
    return target.stat().st_size == max(1, int(layout.starts[-1]))


def _key(source: Source, form: Form) -> str:
    """Identifies the images and how they are decoded and shrunk."""
    digest = hashlib.sha256(f"1 {PIL.__version__} {form} {len(source)}".encode())
    for state in image_states(source):
        digest.update(state)
    return digest.hexdigest()[:32]
