"""VTAB's natural tasks: photographs of things and places, and house numbers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vitral.data.order import sample_at
from vitral.data.sources.files import file_source
from vitral.data.sources.folder import ClassFiles, list_folder
from vitral.data.sources.source import ArraySource, FileSource, Source
from vitral.datasets.originals.files import holding, lines
from vitral.datasets.originals.matlab import matlab_numbers
from vitral.datasets.registry import PRESETS, Preset
from vitral.datasets.vtab.building import divided, vtab_task
from vitral.errors import UserError

__all__ = ["NATURAL", "open_caltech101", "open_dtd", "open_sun397", "open_svhn"]

Open = Callable[[Path], dict[str, Source]]


def with_val(open_split: Open, share: float) -> Open:
    """What opens a data set whose validation images are the last of its training images.

    Args:
        open_split: gives train and test.
        share: of the training images that stay so.
    """

    def opened(root: Path) -> dict[str, Source]:
        splits = open_split(root)
        train, val = divided(splits["train"], (share,))
        return {"train": train, "val": val, "test": splits["test"]}

    return opened


def open_caltech101(root: Path) -> dict[str, Source]:
    """`101_ObjectCategories/`, one folder a class, the background being one: 30 images of each to train on, the others
    to test.

    Raises:
        UserError: there are no such folders, or one has fewer images.
    """
    folder = holding(root, "101_ObjectCategories", "caltech-101") / "101_ObjectCategories"
    parts: dict[str, ClassFiles] = {"train": {}, "test": {}}
    everything = list_folder(folder)["train"]
    for number, (name, files) in enumerate(everything.items()):
        if len(files) <= 30:
            raise UserError(f"{folder / name} has {len(files)} images, and the complete data set more: fetch it again")
        order = sample_at(np.arange(len(files)), size=len(files), seed=number)[1].tolist()
        parts["train"][name] = [files[place] for place in order[:30]]
        parts["test"][name] = [files[place] for place in order[30:]]
    return {split: file_source(folder, by_class, tuple(everything)) for split, by_class in parts.items()}


def open_dtd(root: Path) -> dict[str, Source]:
    """Describable textures: `images/banded/banded_0002.jpg` and the first of ten divisions, `labels/train1.txt`,
    `val1.txt` and `test1.txt`.

    Raises:
        UserError: files are missing or damaged.
    """
    folder = holding(root, "labels/train1.txt", "dtd")
    lists = {split: folder / "labels" / f"{split}1.txt" for split in ("train", "val", "test")}
    return _listed(folder / "images", lists)


def open_sun397(root: Path) -> dict[str, Source]:
    """Scenes: `SUN397/a/abbey/sun_aaalbzqrimafwbiv.jpg`, and the lists of TensorFlow Datasets, `sun397_tfds_tr.txt`,
    `_va.txt` and `_te.txt`, of lines such as `/a/abbey/sun_aaalbzqrimafwbiv.jpg`.

    Raises:
        UserError: files are missing or damaged.
    """
    folder = holding(root, "SUN397", "SUN397") / "SUN397"
    parts = {"train": "tr", "val": "va", "test": "te"}
    return _listed(folder, {split: root / f"sun397_tfds_{part}.txt" for split, part in parts.items()})


def _listed(root: Path, lists: dict[str, Path]) -> dict[str, Source]:
    """Splits from lists of files, whose classes are their folders."""
    files = {split: tuple(line.lstrip("/") for line in lines(file)) for split, file in lists.items()}
    classes = tuple(sorted({str(Path(name).parent) for name in files["train"]}))
    places = {name: place for place, name in enumerate(classes)}
    try:
        labels = {split: [places[str(Path(name).parent)] for name in names] for split, names in files.items()}
    except KeyError as error:
        raise UserError(f"{lists['test'].parent} has lists with the class {error}, which is not trained on") from None
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
    images, labels = matlab_numbers(file, "X"), matlab_numbers(file, "y").reshape(-1)
    fit = images.shape == (32, 32, 3, len(labels)) and images.dtype == np.uint8
    if not (fit and np.isin(labels, range(1, 11)).all()):
        raise UserError(f"{file} holds no cropped house numbers: fetch it again")
    return ArraySource(
        title=str(file),
        images=np.ascontiguousarray(np.moveaxis(images, 3, 0)),
        labels=labels.astype(np.int64) % 10,
        classes=tuple("0123456789"),
    )


def _preset(name: str, *, share: float | None = None, **sizes: int) -> Preset:
    """A data set that is known by name, with the splits of VTAB."""
    preset = PRESETS[name]
    return replace(preset, num_images=sizes, open=preset.open if share is None else with_val(preset.open, share))


def _original(title: str, num_classes: int, sizes: tuple[int, int, int], **about: Any) -> Preset:
    train, val, test = sizes
    return Preset(title=title, num_classes=num_classes, num_images={"train": train, "val": val, "test": test}, **about)


CALTECH101 = _original(
    "Caltech-101",
    102,
    (2_754, 306, 6_084),
    needs="101_ObjectCategories/, its background included",
    origin="https://data.caltech.edu/records/mzrjq-6wc02",
    open=with_val(open_caltech101, 0.9),
)
DTD = _original(
    "the Describable Textures Dataset",
    47,
    (1_880, 1_880, 1_880),
    needs="images/ and labels/",
    origin="https://www.robots.ox.ac.uk/~vgg/data/dtd/",
    open=open_dtd,
)
SUN397 = _original(
    "SUN397",
    397,
    (76_128, 10_875, 21_750),
    needs="SUN397/ (SUN397.tar.gz), and beside it sun397_tfds_tr.txt, sun397_tfds_va.txt and sun397_tfds_te.txt "
    "(tensorflow_datasets/image_classification/ of TensorFlow Datasets)",
    origin="https://vision.princeton.edu/projects/2010/SUN/ and https://github.com/tensorflow/datasets",
    open=open_sun397,
)
SVHN = _original(
    "SVHN",
    10,
    (65_931, 7_326, 26_032),
    needs="train_32x32.mat and test_32x32.mat",
    origin="http://ufldl.stanford.edu/housenumbers/",
    open=with_val(open_svhn, 0.9),
)
CIFAR100 = _preset("cifar100", share=0.9, train=45_000, val=5_000, test=10_000)
FLOWERS = _preset("flowers", train=1_020, val=1_020, test=6_149)
PETS = _preset("pets", share=0.8, train=2_944, val=736, test=3_669)

NATURAL = (
    vtab_task("caltech101", "Caltech101", "natural", CALTECH101, folder="caltech101"),
    vtab_task("cifar100", "CIFAR-100", "natural", CIFAR100, folder="cifar100"),
    vtab_task("dtd", "DTD", "natural", DTD, folder="dtd"),
    vtab_task("flowers102", "Flowers102", "natural", FLOWERS, folder="flowers102"),
    vtab_task("pets", "Pets", "natural", PETS, folder="pets"),
    vtab_task("sun397", "Sun397", "natural", SUN397, folder="sun397"),
    vtab_task("svhn", "SVHN", "natural", SVHN, folder="svhn"),
)
"""Seven tasks, in the order of the paper's Table 9."""
