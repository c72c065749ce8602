"""ImageNet-1k and ImageNet-21k."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np

from vitral.data.sources.files import file_source
from vitral.data.sources.folder import list_folder
from vitral.data.sources.source import FileSource, Source
from vitral.datasets.originals.files import find_folder, read_lines
from vitral.datasets.originals.matlab import load_matlab
from vitral.errors import UserError

__all__ = ["open_imagenet1k", "open_imagenet21k", "open_imagenet_val"]


def open_imagenet1k(root: Path) -> dict[str, Source]:
    """ILSVRC-2012: `train/n01440764/*.JPEG`, and `val/` with or without class folders. They are "test".

    Without class folders, the classes of `val/` come from the development kit (`ILSVRC2012_devkit_t12/data`, or its two
    files beside `val`) or from Kaggle's `LOC_val_solution.csv`, beside `train` and `val` or up to three folders above.

    Raises:
        UserError: files are missing or damaged.
    """
    folder = find_folder(root, "train", "ILSVRC/Data/CLS-LOC")
    train = list_folder(folder / "train")["train"]
    classes = tuple(train)
    source = file_source(folder / "train", train, classes)
    val = open_imagenet_val(folder)
    if unknown := set(val.classes) - set(classes):
        raise UserError(f"{folder}/val has classes that train lacks, such as {min(unknown)}")
    numbers = np.array([classes.index(name) for name in val.classes], np.int64)
    return {"train": source, "test": replace(val, labels=numbers[val.labels], classes=classes)}


def open_imagenet_val(folder: Path) -> FileSource:
    """The validation images in `val/`, found as in `open_imagenet1k`; only the classes that occur are listed.

    Raises:
        UserError: files are missing or damaged.
    """
    if not (folder / "val").is_dir():
        raise UserError(f"{folder} has no val folder: put the validation images there")
    flat = sorted(path.name for path in (folder / "val").iterdir() if path.suffix == ".JPEG")
    if not flat:
        val = list_folder(folder / "val")["train"]
        return file_source(folder / "val", val, tuple(val))
    wordnet = _validation_classes(folder, flat)
    classes = tuple(sorted(set(wordnet)))
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([numbers[name] for name in wordnet], np.int64)
    return FileSource(root=folder / "val", files=tuple(flat), labels=labels, classes=classes)


def _validation_classes(folder: Path, files: list[str]) -> list[str]:
    """WordNet identifier of each validation image's class."""
    around = [folder, *folder.resolve().parents[:3]]
    for place in [path for base in around for path in (base / "ILSVRC2012_devkit_t12" / "data", base)]:
        truth = place / "ILSVRC2012_validation_ground_truth.txt"
        if truth.is_file() and (place / "meta.mat").is_file():
            wordnet = {
                int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in load_matlab(place / "meta.mat", "synsets")
            }
            numbers = [int(line) for line in read_lines(truth)]
            if len(numbers) != len(files):
                raise UserError(f"{truth} lists {len(numbers)} images, but val has {len(files)}: fetch what is missing")
            return [wordnet[number] for number in numbers]
    for base in around:
        if (base / "LOC_val_solution.csv").is_file():
            with (base / "LOC_val_solution.csv").open(newline="") as stream:
                solution = {row["ImageId"]: row["PredictionString"].split()[0] for row in csv.DictReader(stream)}
            missing = [name for name in files if name.removesuffix(".JPEG") not in solution]
            if missing:
                raise UserError(f"{base}/LOC_val_solution.csv lacks {missing[0]}: download it again")
            return [solution[name.removesuffix(".JPEG")] for name in files]
    raise UserError(
        f"{folder}/val has no class folders and no list of classes: put ILSVRC2012_devkit_t12 beside it, "
        "or LOC_val_solution.csv"
    )


def open_imagenet21k(root: Path) -> dict[str, Source]:
    """ImageNet-21k: one folder per class, `n00004475/*.JPEG`, without splits.

    Raises:
        UserError: there are no such folders.
    """
    splits = list_folder(root)
    classes = tuple(splits["train"])
    return {split: file_source(root, files, classes) for split, files in splits.items()}
