"""Which images to use: the part of a configuration that names the data."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vitral.errors import UserError

__all__ = ["ROLES", "DataConfig", "existing_folder"]

ROLES = ("train", "val", "test")
"""What a split can be for."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images to use, and how to read them.

    Raises:
        UserError: a value is out of range.
    """

    source: Literal[
        "digits",
        "idx",
        "folder",
        "images",
        "hub",
        "tars",
        "cifar10",
        "cifar100",
        "fashion-mnist",
        "flowers",
        "imagenet1k",
        "imagenet21k",
        "pets",
    ]
    """digits: scikit-learn's 8x8 digits. idx: IDX files as of MNIST. folder: images, one folder a class.

    images: all images in a folder and the folders in it, without classes, to learn from without labels.

    hub: tables of Hugging Face's datasets, from the Hub or from Parquet or Arrow files, packed ones too.
    tars: tar shards as WebDataset writes them; root may be a pattern such as shards/train-{000..146}.tar.
    The others are data sets by name, from their authors' files or the Hub: `vitral data list` tells what each needs.
    """
    root: Path | None = None
    """Folder of the images, IDX files or tables; with hub also OWNER/NAME on the Hub."""
    image_column: str | None = None
    """Column of the images in tables; None: the only one that there is."""
    label_column: str | None = None
    """Column of the classes in tables, the only one that there is when None; key of the class in the .json of tars."""
    splits: tuple[str, ...] = ()
    """Which tables or shards are which, such as `train=train test=validation`; by their names when empty."""
    class_names: tuple[str, ...] = ()
    """Names of the classes where the data numbers them, in that order; the numbers themselves when empty."""
    held_out: float = 0.2
    """Share of every class held out for testing, where the data has no test or validation split of its own."""
    limit: int | None = None
    """Training images to keep, the same share of every class; None: all. Held-out images stay as they are."""
    val_share: float | None = None
    """Share of every class of the training images held out as "val" besides the test images, to choose a model by."""
    train_on_val: bool = False
    """Whether the data's own validation images are trained on too, once everything is chosen by them."""
    exclude: Path | None = None
    """File that lists images to leave out, one name a line, as `vitral data near --write` writes it."""
    split_seed: int = 0
    """Seed of what is held out; the seed of the run does not change it."""
    on_error: Literal["stop", "skip"] = "stop"
    """What a file that cannot be read does: stop the run, or be skipped, counted and listed."""
    workers: int = 0
    """Processes that read images; 0 reads them in the training process."""

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise UserError(f"--data.held-out must be above 0 and below 1, not {self.held_out}")
        if self.val_share is not None and not 0 < self.val_share < 1:
            raise UserError(f"--data.val-share must be above 0 and below 1, not {self.val_share}")
        if self.train_on_val and self.val_share is not None:
            raise UserError(
                "--data.val-share holds images out that --data.train-on-val would train on: leave one of them out"
            )
        if self.limit is not None and self.limit < 1:
            raise UserError(f"--data.limit must be at least 1, not {self.limit}")
        roles = [entry.split("=", 1)[0] for entry in self.splits if "=" in entry]
        if self.splits and (len(roles) < len(self.splits) or "train" not in roles or set(roles) - set(ROLES)):
            raise UserError(
                f"--data.splits takes train=NAME, and val=NAME and test=NAME where there are such, not {self.splits}"
            )
        if self.split_seed < 0:
            raise UserError(f"--data.split-seed must be at least 0, not {self.split_seed}")
        if self.workers < 0:
            raise UserError(f"--data.workers must be at least 0, not {self.workers}")
        twice = [name for name, count in Counter(self.class_names).items() if count > 1]
        if twice:
            raise UserError(f"--data.class-names has {twice[0]!r} twice: give every class its own name")


def existing_folder(config: DataConfig) -> Path:
    """The folder that `root` names.

    Raises:
        UserError: there is none.
    """
    if config.root is None:
        raise UserError(f"--data.source {config.source} needs --data.root, the folder to read")
    if not config.root.exists():
        package = " (Debian's package dataset-fashion-mnist brings one)" if config.source == "idx" else ""
        raise UserError(f"{config.root} does not exist: give an existing folder as --data.root{package}")
    if not config.root.is_dir():
        raise UserError(f"{config.root} is a file: give the folder that holds the data as --data.root")
    return config.root
