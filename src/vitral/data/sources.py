"""Labelled images by index, and opening the data a configuration names."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from vitral.data.decode import read_image
from vitral.data.digits import digits
from vitral.data.folder import ClassFiles, list_folder
from vitral.data.idx import LabelledImages, read_split
from vitral.data.splits import stratified

__all__ = ["ArraySource", "DataConfig", "FileSource", "Source", "Subset", "open_data"]


@runtime_checkable
class Source(Protocol):
    """Labelled images; any may be read at any time, in any order, in any process."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each class."""
        ...

    @property
    def labels(self) -> Int64[np.ndarray, " n"]:
        """Class of each image."""
        ...

    def __len__(self) -> int: ...

    def image(self, index: int, *, channels: int) -> Image.Image:
        """Image `index`, grey (1 channel) or colour (3).

        Raises:
            BrokenImage: the image cannot be read.
        """
        ...

    def name(self, index: int) -> str:
        """What to call image `index` towards people: its path, or its place such as `digits[12]`."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class ArraySource:
    """Images held in memory."""

    title: str
    """What the images are called."""
    images: UInt8[np.ndarray, "n h w"] | UInt8[np.ndarray, "n h w c"]
    labels: Int64[np.ndarray, " n"]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int, *, channels: int) -> Image.Image:
        """See `Source`."""
        pixels = self.images[index]
        grey = pixels.ndim == 3 and pixels.shape[2] == 1
        image = Image.fromarray(pixels[:, :, 0] if grey else pixels)
        return read_image(image, channels=channels, name=self.name(index))

    def name(self, index: int) -> str:
        """See `Source`."""
        return f"{self.title}[{index}]"


@dataclass(frozen=True, kw_only=True, eq=False)
class FileSource:
    """Images in files, read when asked for."""

    root: Path
    files: tuple[str, ...]
    """Paths from `root`."""
    labels: Int64[np.ndarray, " n"]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    def image(self, index: int, *, channels: int) -> Image.Image:
        """See `Source`."""
        return read_image(self.root / self.files[index], channels=channels)

    def name(self, index: int) -> str:
        """See `Source`."""
        return str(self.root / self.files[index])


@dataclass(frozen=True, kw_only=True, eq=False)
class Subset:
    """Some images of another source, in the order of `indices`."""

    source: Source
    indices: Int64[np.ndarray, " n"]
    labels: Int64[np.ndarray, " n"] = field(init=False)
    """Class of each image."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", self.source.labels[self.indices])

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each class, also of one that no image here belongs to."""
        return self.source.classes

    def __len__(self) -> int:
        return len(self.indices)

    def image(self, index: int, *, channels: int) -> Image.Image:
        """See `Source`."""
        return self.source.image(int(self.indices[index]), channels=channels)

    def name(self, index: int) -> str:
        """See `Source`."""
        return self.source.name(int(self.indices[index]))


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images to use, and how to read them.

    Raises:
        ValueError: a value is out of range.
    """

    source: Literal["digits", "idx", "folder"]
    """digits: scikit-learn's 8x8 digits. idx: IDX files as of MNIST. folder: images, one folder a class."""
    root: Path | None = None
    """Folder of the images or IDX files."""
    class_names: tuple[str, ...] = ()
    """Names of the classes of idx and digits, in the order of their labels; the numbers themselves when empty."""
    held_out: float = 0.2
    """Share of every class held out for testing, where the data has no test or validation split of its own."""
    split_seed: int = 0
    """Seed of what is held out; the seed of the run does not change it."""
    on_error: Literal["stop", "skip"] = "stop"
    """What a file that cannot be read does: stop the run, or be skipped, counted and listed."""
    workers: int = 0
    """Processes that read images; 0 reads them in the training process."""

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise ValueError(f"--data.held-out must be above 0 and below 1, not {self.held_out}")
        if self.split_seed < 0:
            raise ValueError(f"--data.split-seed must be at least 0, not {self.split_seed}")
        if self.workers < 0:
            raise ValueError(f"--data.workers must be at least 0, not {self.workers}")
        twice = [name for name, count in Counter(self.class_names).items() if count > 1]
        if twice:
            raise ValueError(f"--data.class-names has {twice[0]!r} twice: give every class its own name")


def open_data(config: DataConfig) -> dict[str, Source]:
    """Opens the data: "train", and "val" or "test" or both; a held-out share is called "test".

    Raises:
        ValueError: the data is not there, not of the promised form, or has fewer than two classes.
    """
    splits = _OPENERS[config.source](config)
    train = splits["train"]
    if len(train.classes) < 2:
        only = ", ".join(train.classes)
        raise ValueError(f"{config.root} has only one class, {only!r}: a classifier needs at least two to tell apart")
    if len(splits) > 1:
        return splits
    kept, held_out = stratified(train.labels, train.classes, share=config.held_out, seed=config.split_seed)
    return {"train": Subset(source=train, indices=kept), "test": Subset(source=train, indices=held_out)}


def _open_digits(config: DataConfig) -> dict[str, Source]:
    if config.root is not None:
        raise ValueError(
            "--data.source digits comes with its images: "
            "leave out --data.root, or choose --data.source folder or --data.source idx"
        )
    images, labels = digits()
    classes = config.class_names or _numbers(10)
    if len(classes) != 10:
        raise ValueError(f"--data.class-names needs 10 names for the digits, not {len(classes)}")
    return {"train": ArraySource(title="digits", images=images, labels=labels, classes=classes)}


def _open_idx(config: DataConfig) -> dict[str, Source]:
    root = _existing_folder(config)
    train, test = read_split(root, "train"), read_split(root, "t10k")
    if train is None:
        raise ValueError(
            f"{root} has no train-images-idx3-ubyte (or .gz): give the folder of the IDX files as --data.root"
        )
    classes = config.class_names or _numbers(int(train.labels.max()) + 1)
    splits = {"train": train} if test is None else {"train": train, "test": test}
    return {split: _array_source(part, classes) for split, part in splits.items()}


def _array_source(part: LabelledImages, classes: tuple[str, ...]) -> ArraySource:
    highest = part.labels.max()
    if highest >= len(classes):
        raise ValueError(
            f"{part.labels_file} has the label {highest}, but there are only {len(classes)} classes, "
            f"0 to {len(classes) - 1}: name every class with --data.class-names, or fetch the right file"
        )
    return ArraySource(title=str(part.file), images=part.images, labels=part.labels, classes=classes)


def _open_folder(config: DataConfig) -> dict[str, Source]:
    if config.class_names:
        raise ValueError("--data.source folder names its classes after their folders: leave out --data.class-names")
    root = _existing_folder(config)
    splits = list_folder(root)
    classes = tuple(splits["train"])
    return {split: _file_source(root, by_class, classes) for split, by_class in splits.items()}


def _file_source(root: Path, by_class: ClassFiles, classes: tuple[str, ...]) -> FileSource:
    files = tuple(file for members in by_class.values() for file in members)
    labels = np.repeat([classes.index(name) for name in by_class], [len(members) for members in by_class.values()])
    return FileSource(root=root, files=files, labels=labels.astype(np.int64), classes=classes)


def _existing_folder(config: DataConfig) -> Path:
    if config.root is None:
        raise ValueError(f"--data.source {config.source} needs --data.root, the folder to read")
    if not config.root.exists():
        package = " (Debian's package dataset-fashion-mnist brings one)" if config.source == "idx" else ""
        raise ValueError(f"{config.root} does not exist: give an existing folder as --data.root{package}")
    if not config.root.is_dir():
        raise ValueError(f"{config.root} is a file: give the folder that holds the data as --data.root")
    return config.root


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(str(label) for label in range(count))


_OPENERS = {"digits": _open_digits, "idx": _open_idx, "folder": _open_folder}
