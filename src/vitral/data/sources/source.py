"""Sources of labelled images, accessed by index."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from PIL import Image

from vitral.data.images.decode import read_image
from vitral.data.sources.packed_strings import PackedStrings

__all__ = [
    "ArraySource",
    "ConcatSource",
    "FileSource",
    "Labels",
    "MappedSource",
    "Source",
    "Subset",
    "read_ahead",
    "read_from",
]

Labels = Int64[np.ndarray, " n"] | Float32[np.ndarray, "n k"]
"""Class of each image; or 1 for each of its labels and 0 for the others; or, with k = 1, its number."""


@runtime_checkable
class Source(Protocol):
    """Labelled images, readable in any order and in any process."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each class, of each label, or of what the numbers are."""
        ...

    @property
    def labels(self) -> Labels:
        """What each image has to learn."""
        ...

    def __len__(self) -> int: ...

    def stored(self, index: int) -> Path | bytes | Image.Image:
        """Image `index` as it is stored: a path, the bytes of a file, or pixels.

        Raises:
            UnreadableImage: the image cannot be fetched. Whether it can be decoded is not checked here.
        """
        ...

    def name(self, index: int) -> str:
        """The name of image `index` in messages: its path, or its position such as `digits[12]`."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class ArraySource:
    """Images in memory."""

    title: str
    """The source's name in messages."""
    images: UInt8[np.ndarray, "n h w"] | UInt8[np.ndarray, "n h w c"]
    labels: Labels
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def stored(self, index: int) -> Image.Image:
        """See `Source`."""
        pixels = self.images[index]
        grey = pixels.ndim == 3 and pixels.shape[2] == 1
        return Image.fromarray(pixels[:, :, 0] if grey else pixels)

    def name(self, index: int) -> str:
        """See `Source`."""
        return f"{self.title}[{index}]"


@dataclass(frozen=True, kw_only=True, eq=False)
class FileSource:
    """Images in files, read on access."""

    root: Path
    files: Sequence[str]
    """Paths relative to `root`; converted to `PackedStrings`."""
    labels: Labels
    classes: tuple[str, ...]
    groups: Sequence[str] | None = None
    """Group of each image, such as a patient; None: the data has none."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", PackedStrings(self.files))

    def __len__(self) -> int:
        return len(self.files)

    def stored(self, index: int) -> Path:
        """See `Source`."""
        return self.root / self.files[index]

    def name(self, index: int) -> str:
        """See `Source`."""
        return str(self.root / self.files[index])


@dataclass(frozen=True, kw_only=True, eq=False)
class Subset:
    """A subset of another source, in the order of `indices`."""

    source: Source
    indices: Int64[np.ndarray, " n"]
    labels: Labels = field(init=False)
    """See `Labels`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", self.source.labels[self.indices])

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each class of the source, also of those without images here."""
        return self.source.classes

    def __len__(self) -> int:
        return len(self.indices)

    def stored(self, index: int) -> Path | bytes | Image.Image:
        """See `Source`."""
        return self.source.stored(int(self.indices[index]))

    def name(self, index: int) -> str:
        """See `Source`."""
        return self.source.name(int(self.indices[index]))


@dataclass(frozen=True, kw_only=True, eq=False)
class ConcatSource:
    """Two sources with the same classes, concatenated."""

    first: Source
    second: Source
    labels: Labels = field(init=False)
    """See `Labels`."""

    def __post_init__(self) -> None:
        assert self.first.classes == self.second.classes
        object.__setattr__(self, "labels", np.concatenate([self.first.labels, self.second.labels]))

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each class."""
        return self.first.classes

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def stored(self, index: int) -> Path | bytes | Image.Image:
        """See `Source`."""
        source, position = self._locate(index)
        return source.stored(position)

    def name(self, index: int) -> str:
        """See `Source`."""
        source, position = self._locate(index)
        return source.name(position)

    def _locate(self, index: int) -> tuple[Source, int]:
        before = len(self.first)
        return (self.first, index) if index < before else (self.second, index - before)


@dataclass(frozen=True, kw_only=True, eq=False)
class MappedSource:
    """Another source whose images are transformed on access."""

    source: Source
    transform: Callable[[Image.Image], Image.Image | bytes]
    """From an upright colour image to another image, or to the bytes of a file."""

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

    def stored(self, index: int) -> Image.Image | bytes:
        """See `Source`."""
        return self.transform(read_from(self.source, index, channels=3))

    def name(self, index: int) -> str:
        """See `Source`."""
        return self.source.name(index)


@runtime_checkable
class _Distant(Protocol):
    """A source that reads many images faster than one after the other."""

    def read_ahead(self, indices: Int64[np.ndarray, " b"]) -> None:
        """Reads images that `stored` returns soon, in place of those of the last call."""
        ...


def read_ahead(source: Source, indices: Int64[np.ndarray, " b"]) -> None:
    """Fetches a batch of images at once, if the source is far away; `stored` then has them.

    Raises:
        OSError: they cannot be fetched.
    """
    match source:
        case Subset():
            read_ahead(source.source, source.indices[indices])
        case ConcatSource():
            before = len(source.first)
            read_ahead(source.first, indices[indices < before])
            read_ahead(source.second, indices[indices >= before] - before)
        case MappedSource():
            read_ahead(source.source, indices)
        case _Distant():
            source.read_ahead(indices)
        case _:
            pass


def read_from(source: Source, index: int, *, channels: int) -> Image.Image:
    """Image `index` of a source, upright, grey (1 channel) or colour (3).

    Raises:
        UnreadableImage: the image cannot be read.
    """
    return read_image(source.stored(index), channels=channels, name=source.name(index))
