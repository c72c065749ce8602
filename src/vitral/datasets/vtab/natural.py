"""VTAB's natural tasks: photographs of objects and places, and house numbers."""

from pathlib import Path

import numpy as np

from vitral.data.order import sample_at
from vitral.data.sources.files import file_source
from vitral.data.sources.folder import ClassFiles, list_folder
from vitral.data.sources.source import ArraySource, FileSource, Source
from vitral.datasets.data_set import lazy
from vitral.datasets.originals.files import find_folder, read_lines
from vitral.datasets.originals.matlab import load_matlab_array
from vitral.datasets.vtab.sampling import split_by_fractions
from vitral.errors import UserError

__all__ = ["open_caltech101", "open_dtd", "open_sun397", "open_svhn", "open_with_val"]


def open_with_val(root: Path, *, reader: str, fraction: float) -> dict[str, Source]:
    """A data set whose validation split is taken out of its training split.

    Args:
        root: the data set's folder.
        reader: place of the reader of its splits train and test, see `lazy`.
        fraction: of the training images that remain.
    """
    splits = lazy(reader)(root)
    train, val = split_by_fractions(splits["train"], (fraction,))
    return {"train": train, "val": val, "test": splits["test"]}


def open_caltech101(root: Path) -> dict[str, Source]:
    """`101_ObjectCategories/`, one folder per class, the background among them: 30 training images of each class, the
    others for the test split.

    Raises:
        UserError: there are no such folders, or one has fewer images.
    """
    folder = find_folder(root, "101_ObjectCategories", "caltech-101") / "101_ObjectCategories"
    parts: dict[str, ClassFiles] = {"train": {}, "test": {}}
    everything = list_folder(folder)["train"]
    for number, (name, files) in enumerate(everything.items()):
        if len(files) <= 30:
            raise UserError(
                f"{folder / name} has {len(files)} images, fewer than the complete data set: download it again"
            )
        order = sample_at(np.arange(len(files)), size=len(files), seed=number)[1].tolist()
        parts["train"][name] = [files[index] for index in order[:30]]
        parts["test"][name] = [files[index] for index in order[30:]]
    return {split: file_source(folder, by_class, tuple(everything)) for split, by_class in parts.items()}


def open_dtd(root: Path) -> dict[str, Source]:
    """Describable textures: `images/banded/banded_0002.jpg` and the first of ten splits, `labels/train1.txt`,
    `val1.txt` and `test1.txt`.

    Raises:
        UserError: files are missing or damaged.
    """
    folder = find_folder(root, "labels/train1.txt", "dtd")
    lists = {split: folder / "labels" / f"{split}1.txt" for split in ("train", "val", "test")}
    return _listed(folder / "images", lists)


def open_sun397(root: Path) -> dict[str, Source]:
    """Scenes: `SUN397/a/abbey/sun_aaalbzqrimafwbiv.jpg`, and the lists of TensorFlow Datasets, `sun397_tfds_tr.txt`,
    `_va.txt` and `_te.txt`, of lines such as `/a/abbey/sun_aaalbzqrimafwbiv.jpg`.

    Raises:
        UserError: files are missing or damaged.
    """
    folder = find_folder(root, "SUN397", "SUN397") / "SUN397"
    parts = {"train": "tr", "val": "va", "test": "te"}
    return _listed(folder, {split: root / f"sun397_tfds_{part}.txt" for split, part in parts.items()})


def _listed(root: Path, lists: dict[str, Path]) -> dict[str, Source]:
    """Splits from lists of files; a file's folder is its class."""
    files = {split: tuple(line.lstrip("/") for line in read_lines(file)) for split, file in lists.items()}
    classes = tuple(sorted({str(Path(name).parent) for name in files["train"]}))
    numbers = {name: number for number, name in enumerate(classes)}
    try:
        labels = {split: [numbers[str(Path(name).parent)] for name in names] for split, names in files.items()}
    except KeyError as error:
        raise UserError(f"{lists['test'].parent} lists the class {error}, which the training images lack") from None
    return {
        split: FileSource(root=root, files=names, labels=np.array(labels[split], np.int64), classes=classes)
        for split, names in files.items()
    }


def open_svhn(root: Path) -> dict[str, Source]:
    """Street View House Numbers, cropped: `train_32x32.mat` and `test_32x32.mat`, where the digit 0 is labelled 10.

    Raises:
        UserError: files are missing or damaged.
    """
    return {split: _house_numbers(root / f"{split}_32x32.mat") for split in ("train", "test")}


def _house_numbers(file: Path) -> ArraySource:
    images, labels = load_matlab_array(file, "X"), load_matlab_array(file, "y").reshape(-1)
    fit = images.shape == (32, 32, 3, len(labels)) and images.dtype == np.uint8
    if not (fit and np.isin(labels, range(1, 11)).all()):
        raise UserError(f"{file} holds no cropped house numbers: download it again")
    return ArraySource(
        title=str(file),
        images=np.ascontiguousarray(np.moveaxis(images, 3, 0)),
        labels=labels.astype(np.int64) % 10,
        classes=tuple("0123456789"),
    )
