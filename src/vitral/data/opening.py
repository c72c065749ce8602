"""Opening the data that a configuration names."""

from pathlib import Path

import numpy as np

from vitral.data.config import DataConfig, existing_folder
from vitral.data.digits import digits
from vitral.data.exclude import without
from vitral.data.folder import ClassFiles, list_folder
from vitral.data.idx import LabelledImages, read_split
from vitral.data.sources import ArraySource, FileSource, Source, Subset
from vitral.data.splits import stratified
from vitral.data.tables import open_tables
from vitral.data.tars import open_tars

__all__ = ["open_data"]


def open_data(config: DataConfig) -> dict[str, Source]:
    """Opens the data: "train", and "val" or "test" or both; a held-out share is called "test".

    Images to leave out go last, so that a list of them never moves another image from one split to another.

    Raises:
        ValueError: the data is not there, not of the promised form, or has fewer than two classes.
    """
    splits = _OPENERS[config.source](config)
    train = splits["train"]
    if len(train.classes) < 2:
        only = ", ".join(train.classes)
        raise ValueError(f"{config.root} has only one class, {only!r}: a classifier needs at least two to tell apart")
    if len(splits) == 1:
        splits = _held_out(train, "test", share=config.held_out, seed=config.split_seed)
    if config.val_share is not None:
        if "val" in splits:
            raise ValueError(f"{config.root} has a validation split of its own: leave out --data.val-share")
        splits |= _held_out(splits["train"], "val", share=config.val_share, seed=config.split_seed)
    return splits if config.exclude is None else without(splits, config.exclude, root=config.root)


def _held_out(train: Source, name: str, *, share: float, seed: int) -> dict[str, Source]:
    """The training images in two: those that stay, and a share of every class under another name."""
    kept, held_out = stratified(train.labels, train.classes, share=share, seed=seed)
    return {"train": Subset(source=train, indices=kept), name: Subset(source=train, indices=held_out)}


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
    root = existing_folder(config)
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
    root = existing_folder(config)
    splits = list_folder(root)
    classes = tuple(splits["train"])
    return {split: _file_source(root, by_class, classes) for split, by_class in splits.items()}


def _file_source(root: Path, by_class: ClassFiles, classes: tuple[str, ...]) -> FileSource:
    files = tuple(file for members in by_class.values() for file in members)
    labels = np.repeat([classes.index(name) for name in by_class], [len(members) for members in by_class.values()])
    return FileSource(root=root, files=files, labels=labels.astype(np.int64), classes=classes)


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(str(label) for label in range(count))


_OPENERS = {"digits": _open_digits, "idx": _open_idx, "folder": _open_folder, "hub": open_tables, "tars": open_tars}
