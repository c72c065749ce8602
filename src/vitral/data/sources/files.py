"""Opens IDX files and folders of images."""

from pathlib import Path

import numpy as np

from vitral.data.config import DataConfig, refuse_label_options, require_folder
from vitral.data.images.bands import image_suffixes
from vitral.data.notes import note_once
from vitral.data.sources.folder import ClassFiles, class_folders, list_folder, list_images
from vitral.data.sources.idx import LabelledImages, read_split
from vitral.data.sources.label_files import find_label_file, find_metadata, open_label_files
from vitral.data.sources.label_folders import folder_labels
from vitral.data.sources.source import ArraySource, FileSource, Source
from vitral.errors import UserError

__all__ = ["file_source", "open_folder", "open_idx", "open_images"]


def open_idx(config: DataConfig) -> dict[str, Source]:
    """IDX files with MNIST's file names.

    Raises:
        UserError: they are missing or damaged, or a label has no class.
    """
    root = require_folder(config)
    train, test = read_split(root, "train"), read_split(root, "t10k")
    if train is None:
        raise UserError(
            f"{root} has no train-images-idx3-ubyte (or .gz): give the folder of the IDX files as --data.root"
        )
    classes = config.class_names or _numbers(int(train.labels.max()) + 1)
    splits = {"train": train} if test is None else {"train": train, "test": test}
    return {split: _array_source(part, classes) for split, part in splits.items()}


def _array_source(part: LabelledImages, classes: tuple[str, ...]) -> ArraySource:
    highest = part.labels.max()
    if highest >= len(classes):
        raise UserError(
            f"{part.labels_file} has the label {highest}, but there are only {len(classes)} classes, "
            f"0 to {len(classes) - 1}: name every class with --data.class-names, or download the right file"
        )
    return ArraySource(title=str(part.file), images=part.images, labels=part.labels, classes=classes)


def open_folder(config: DataConfig) -> dict[str, Source]:
    """A folder of images, one subfolder per class, or without any but with a label file.

    Raises:
        UserError: see `list_folder` and `open_label_files`.
    """
    if config.root is not None and (files := _label_files(config.root)):
        return open_label_files(files, config)
    if config.class_names:
        raise UserError(
            "--data.source folder takes the classes' names from their folders: leave out --data.class-names"
        )
    root = require_folder(config)
    refuse_label_options(config)
    if config.target == "regression":
        raise UserError(f"{root} has no label file with a number for each image: give one with --data.source csv")
    splits = list_folder(root, suffixes=image_suffixes(config.channels))
    if config.target == "multi-label":
        return dict(folder_labels(root, splits))
    classes = tuple(splits["train"])
    return {split: file_source(root, by_class, classes) for split, by_class in splits.items()}


def _label_files(root: Path) -> dict[str, Path]:
    """The label files that stand in for class folders, by split; empty if there are none, or class folders too."""
    if file := find_label_file(root):
        return {"train": file}
    files = find_metadata(root) if root.is_dir() else {}
    if files and len(class_folders(files["train"].parent)) > 1:
        note_once(
            f"{files['train']} is not read, as the images are in class folders: --data.source csv --data.root "
            f"{files['train']} would take its classes"
        )
        return {}
    return files


def open_images(config: DataConfig) -> dict[str, Source]:
    """All images under a folder, in a single class without meaning.

    Raises:
        UserError: there are fewer than two.
    """
    root = require_folder(config)
    files = list_images(root, suffixes=image_suffixes(config.channels))
    if len(files) < 2:
        raise UserError(f"{root} has {len(files) or 'no'} images: give a folder with some as --data.root")
    return {"train": file_source(root, {"image": files}, ("image",))}


def file_source(root: Path, by_class: ClassFiles, classes: tuple[str, ...]) -> FileSource:
    """A source of files by class; labels follow the order of `classes`."""
    files = tuple(file for members in by_class.values() for file in members)
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.repeat([numbers[name] for name in by_class], [len(members) for members in by_class.values()])
    return FileSource(root=root, files=files, labels=labels.astype(np.int64), classes=classes)


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(str(label) for label in range(count))
