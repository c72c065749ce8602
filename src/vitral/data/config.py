"""Which images to use: the part of a configuration that names the data."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vitral.config import renamed
from vitral.data.images.memory import parse_size
from vitral.data.sources.remote import as_url
from vitral.errors import UserError

__all__ = ["ROLES", "DataConfig", "Target", "refuse_label_options", "require_folder"]

ROLES = ("train", "val", "test")
"""Names of the splits."""

Target = Literal["class", "multi-label", "regression"]
"""What is learned of each image: its only class, any number of labels, or a number."""

LABEL_SOURCES = ("csv", "folder")
"""Kinds of storage whose images may have several labels, or a number."""

BAND_SOURCES = ("folder", "images", "csv", "hub", "tars")
"""Kinds of storage whose images may have any number of channels."""


@renamed(keys={"held_out": "test_fraction", "val_share": "val_fraction"})
@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images to use, and how to read them.

    Raises:
        UserError: a value is out of range.
    """

    source: str
    """folder: images, one folder per class.

    images: all images in a folder and its subfolders, without classes, for learning without labels.
    idx: IDX files as of MNIST.
    hub: tables of Hugging Face's datasets, from the Hub or from Parquet, Arrow or packed files.
    csv: a file of paths and classes: CSV, TSV, JSON Lines, JSON (records, COCO, Label Studio) or a plain list.
    tars: tar shards in the WebDataset format; root may be a pattern or URL, such as shards/train-{000..146}.tar.
    tfrecord: TFRecord files of images and classes, also those of TensorFlow Datasets; root as with tars.

    Anything else is a data set's name, such as digits or cifar10: `vitral data list` shows all names.
    """
    root: Path | None = None
    """Folder of the images, IDX files or tables, or the label file; with hub also OWNER/NAME on the Hub."""
    channels: int | None = None
    """Number of channels, 1 to 16, of images that are no pictures: TIFF and NumPy (.npy) files of integers or floats,
    whose values are normalised by the mean and standard deviation of each channel; None: pictures, grey or colour.
    """
    images: Path | None = None
    """Folder of the images that a label file names; None: the folder of the file."""
    image_column: str | None = None
    """Column of the images in tables and label files; None: the only one that looks like it."""
    label_column: str | None = None
    """Column of the classes in tables and label files, or key in the .json of tars; None: the one that fits."""
    target: Target = "class"
    """What is learned of each image.

    class: its only class.
    multi-label: any number of labels: several in a cell of a label file, a column of 0 and 1 for each, or folders that
    have copies of the same file.
    regression: the number in a column of a label file.
    """
    label_separator: str | None = None
    """What separates the labels in a cell, with the target multi-label; None: |, ;, comma or space, as fits."""
    split_column: str | None = None
    """Column of a label file that assigns each image to a split; None: the column `split`, if there is one."""
    group_column: str | None = None
    """Column of tables and label files, such as a patient: images with the same value are held out together."""
    group_pattern: str | None = None
    """Regular expression for images' paths: those with the same first group are held out together."""
    splits: tuple[str, ...] = ()
    """Which tables or shards belong to which split, such as `train=train test=validation`; empty: by their names."""
    class_names: tuple[str, ...] = ()
    """Names of classes that the data only numbers, in order; empty: the numbers."""
    test_fraction: float = 0.2
    """Fraction of every class held out as "test", for data without a test or validation split."""
    limit: int | None = None
    """Number of training images to use, the same fraction of every class; None: all. Other splits are unaffected."""
    val_fraction: float | None = None
    """Fraction of every class of the training images held out as "val", to choose hyperparameters and models."""
    val_fold: str | None = None
    """Fold of the training images held out as "val", such as 2/5: the second of five parts of equal size, of which each
    has the same fraction of every class. `vitral sweep --folds 5` trains with each.
    """
    sampling: Literal["uniform", "balanced"] = "uniform"
    """Training images in an epoch. uniform: each once. balanced: as many of each class; images of small classes are
    repeated, each time augmented differently.
    """
    train_on_val: bool = False
    """Whether to train on the data's own validation images too, for the final run after all choices are made."""
    exclude: Path | None = None
    """File with the names of images to exclude, one per line, as `vitral data near --write` writes it."""
    split_seed: int = 0
    """Seed of the held-out images; independent of the run's seed."""
    on_error: Literal["stop", "skip"] = "stop"
    """For unreadable images: stop the run, or skip, count and list them."""
    workers: int = 0
    """Processes that read images; 0: the training process itself."""
    memory: str | None = None
    """Memory that decoding images may take, of all readers together, such as 2GiB; an image that takes more is refused.
    None: 2GiB, or the environment variable VITRAL_MEMORY.
    """
    cache: str | None = None
    """Where a run keeps decoded images: `ram`, or a folder on a local disk; None: they are decoded in every epoch."""
    cache_side: int | None = None
    """Short side to which larger training images are shrunk in the cache, in pixels; None: none is shrunk."""

    def __post_init__(self) -> None:
        if self.channels is not None and not 1 <= self.channels <= 16:
            raise UserError(f"--data.channels must be from 1 to 16, not {self.channels}")
        if self.channels is not None and self.source not in BAND_SOURCES:
            raise UserError(
                f"--data.source {self.source} has pictures: leave out --data.channels, or choose one of "
                f"{', '.join(BAND_SOURCES)}"
            )
        self._check_target()
        if not 0 < self.test_fraction < 1:
            raise UserError(f"--data.test-fraction must be above 0 and below 1, not {self.test_fraction}")
        if self.val_fraction is not None and not 0 < self.val_fraction < 1:
            raise UserError(f"--data.val-fraction must be above 0 and below 1, not {self.val_fraction}")
        if self.train_on_val and self.val_fraction is not None:
            raise UserError(
                "--data.val-fraction holds out images that --data.train-on-val would train on: leave one of them out"
            )
        if self.val_fold is not None:
            self._check_fold(self.val_fold)
        if self.limit is not None and self.limit < 1:
            raise UserError(f"--data.limit must be at least 1, not {self.limit}")
        roles = [entry.split("=", 1)[0] for entry in self.splits if "=" in entry]
        if self.splits and (len(roles) < len(self.splits) or "train" not in roles or set(roles) - set(ROLES)):
            raise UserError(f"--data.splits takes train=NAME, and optionally val=NAME and test=NAME, not {self.splits}")
        if self.group_column is not None and self.group_pattern is not None:
            raise UserError("--data.group-column and --data.group-pattern both group the images: leave one of them out")
        if self.group_pattern is not None:
            try:
                re.compile(self.group_pattern)
            except re.error as error:
                raise UserError(
                    f"--data.group-pattern {self.group_pattern!r} is no regular expression: {error}"
                ) from None
        if self.split_seed < 0:
            raise UserError(f"--data.split-seed must be at least 0, not {self.split_seed}")
        if self.workers < 0:
            raise UserError(f"--data.workers must be at least 0, not {self.workers}")
        if self.memory is not None:
            parse_size(self.memory, name="--data.memory")
        if self.cache_side is not None and self.cache_side < 1:
            raise UserError(f"--data.cache-side must be at least 1 pixel, not {self.cache_side}")
        if self.cache_side is not None and self.channels is not None:
            raise UserError("--data.cache-side shrinks pictures: leave it out with --data.channels")
        if self.cache_side is not None and self.cache is None:
            raise UserError("--data.cache-side shrinks images in a cache: give --data.cache ram or a folder")
        twice = [name for name, count in Counter(self.class_names).items() if count > 1]
        if twice:
            raise UserError(f"--data.class-names has {twice[0]!r} twice: give every class its own name")

    @property
    def fold(self) -> tuple[int, int]:
        """The fold held out as "val", from 0, and the number of folds."""
        assert self.val_fold is not None
        number, folds = self.val_fold.split("/")
        return int(number) - 1, int(folds)

    def _check_fold(self, text: str) -> None:
        """Raises UserError if it is no fold, or other images are held out too."""
        if not re.fullmatch(r"[0-9]{1,6}/[0-9]{1,6}", text) or not 0 <= self.fold[0] < self.fold[1] > 1:
            raise UserError(f"--data.val-fold takes one of several folds, such as 2/5 for the second of 5, not {text}")
        if self.val_fraction is not None:
            raise UserError("--data.val-fold and --data.val-fraction both hold out images: leave one of them out")
        if self.train_on_val:
            raise UserError(
                "--data.val-fold holds out images that --data.train-on-val would train on: leave one of them out"
            )

    def _check_target(self) -> None:
        """Raises UserError if the kind of storage has no such targets, or options do not go with the target."""
        if self.target != "class" and self.source not in LABEL_SOURCES:
            raise UserError(
                f"--data.target {self.target} needs a label file or folders: choose --data.source csv or folder, not "
                f"{self.source}"
            )
        if self.label_separator is not None and self.target != "multi-label":
            raise UserError(
                "--data.label-separator separates several labels of an image: add --data.target multi-label, or leave "
                "it out"
            )
        if self.sampling == "balanced" and (self.target != "class" or self.source == "images"):
            weights = ", or give --objective.class-weights balanced" if self.target == "multi-label" else ""
            raise UserError(f"--data.sampling balanced draws as many images of each class: leave it out{weights}")
        if self.label_separator == "":
            raise UserError("--data.label-separator is empty: give the characters between two labels, such as '|'")


def refuse_label_options(config: DataConfig, *, columns: bool = True) -> None:
    """Refuses options of label files for data that is none.

    Args:
        columns: whether to refuse the columns of images and classes too, which tables have.

    Raises:
        UserError: such an option is given.
    """
    options = {"images": config.images, "split-column": config.split_column}
    options |= {"label-separator": config.label_separator}
    if columns:
        options |= {"image-column": config.image_column, "label-column": config.label_column}
    given = next((name for name, value in options.items() if value is not None), None)
    if given is not None:
        raise UserError(f"--data.{given} is for label files, and {config.root or config.source} is none: leave it out")


def require_folder(config: DataConfig) -> Path:
    """The folder `root`.

    Raises:
        UserError: it is missing or not a folder.
    """
    if config.root is None:
        raise UserError(f"--data.source {config.source} needs --data.root, the folder to read")
    if url := as_url(config.root):
        raise UserError(f"--data.source {config.source} does not read {url}: only tars and tfrecord read URLs")
    if not config.root.exists():
        package = " (Debian's package dataset-fashion-mnist installs one)" if config.source == "idx" else ""
        raise UserError(f"{config.root} does not exist: give an existing folder as --data.root{package}")
    if not config.root.is_dir():
        raise UserError(f"{config.root} is a file: give the folder that holds the data as --data.root")
    return config.root
