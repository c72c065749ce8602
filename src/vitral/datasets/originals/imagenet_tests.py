"""Test sets for classifiers of ImageNet's 1,000 classes: the validation images, new labels, new images."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from PIL import Image

from vitral.config import parse_json
from vitral.data.sources.files import file_source
from vitral.data.sources.folder import list_folder
from vitral.data.sources.source import FileSource, MappedSource, Source
from vitral.datasets.originals.files import read_file, read_lines
from vitral.datasets.originals.imagenet import open_imagenet_val
from vitral.errors import UserError

__all__ = ["TESTS", "Right", "Test", "TestSet", "open_by_name", "right_of"]

Right = Int64[np.ndarray, "n k"]
"""Correct classes of each image, as indices of ImageNet's 1,000 classes; rows are padded with -1."""


@dataclass(frozen=True, kw_only=True)
class TestSet:
    """Images and their correct classes."""

    __test__ = False  # pytest must not collect it

    source: Source
    right: Right
    among: tuple[int, ...] | None = None
    """The classes that predictions are restricted to; None: all 1,000."""


Open = Callable[[Path, Sequence[str]], TestSet]


@dataclass(frozen=True, kw_only=True)
class Test:
    """One test set: where its files are, and how to open them."""

    __test__ = False

    title: str
    place: str
    """A file or folder inside `--data.root` that shows that the test set is there."""
    num_images: int
    """Number of evaluated images of the complete set."""
    origin: str
    open: Open
    """From the folder of all data and the WordNet identifiers of ImageNet's classes, in order.

    Raises a UserError if files are missing or damaged.
    """


def right_of(classes: Sequence[Sequence[int]]) -> Right:
    """Lists of classes as an array, padded with -1."""
    width = max(map(len, classes), default=1)
    return np.array([[*row, *[-1] * (width - len(row))] for row in classes], np.int64).reshape(len(classes), -1)


def open_original(root: Path, identifiers: Sequence[str]) -> TestSet:
    """The validation images, `val/`, with the labels of 2012."""
    source = open_imagenet_val(root)
    return TestSet(source=source, right=_by_identifier(source, identifiers))


def open_real(root: Path, identifiers: Sequence[str]) -> TestSet:
    """The validation images with the reassessed labels of `real.json` (arXiv 2006.07159): a list of classes for each,
    in the order of the files. Images with an empty list are not evaluated.
    """
    source, file = open_imagenet_val(root), root / "real.json"
    try:
        reassessed = parse_json(read_file(file), origin=file.name)
        numbers = [int(re.findall(r"_(\d{8})", Path(source.name(index)).stem)[-1]) - 1 for index in range(len(source))]
        right = right_of([[int(label) for label in reassessed[number]] for number in numbers])
    except (ValueError, TypeError, IndexError) as error:
        if str(error).startswith(str(file)):
            raise
        raise UserError(
            f"{file} does not match the files in val, named like ILSVRC2012_val_00000001.JPEG: download it again"
        ) from None
    return TestSet(source=source, right=right)


def _by_number(folder: str) -> Open:
    """ImageNet-V2: the folders are named 0 to 999 (arXiv 1902.10811)."""

    def opened(root: Path, identifiers: Sequence[str]) -> TestSet:
        by_class = list_folder(root / folder)["train"]
        if not set(by_class) <= {str(number) for number in range(len(identifiers))}:
            raise UserError(f"{root / folder} has folders that are not named 0 to 999: download it again")
        source = file_source(root / folder, by_class, tuple(by_class))
        numbers = np.array([int(name) for name in source.classes], np.int64)
        return TestSet(source=source, right=numbers[source.labels][:, None])

    return opened


def open_by_name(folder: str, *, few: bool) -> Open:
    """Opens class folders named by WordNet identifier; with `few`, predictions are restricted to their classes."""

    def opened(root: Path, identifiers: Sequence[str]) -> TestSet:
        by_class = list_folder(root / folder)["train"]
        source = file_source(root / folder, by_class, tuple(by_class))
        right = _by_identifier(source, identifiers)
        return TestSet(source=source, right=right, among=tuple(np.unique(right).tolist()) if few else None)

    return opened


def _by_identifier(source: FileSource, identifiers: Sequence[str]) -> Right:
    numbers = {identifier: number for number, identifier in enumerate(identifiers)}
    unknown = [name for name in source.classes if name not in numbers]
    if unknown:
        raise UserError(
            f"{source.root} has the class {unknown[0]}, which is not one of ImageNet's 1,000: download it again"
        )
    return np.array([numbers[name] for name in source.classes], np.int64)[source.labels][:, None]


def crop_border(image: Image.Image) -> Image.Image:
    """Removes a border of two pixels: ObjectNet's images have a red one, so that nobody trains on them by accident."""
    return image.crop((2, 2, image.width - 2, image.height - 2))


OBJECTNET = "objectnet-1.0"


def open_objectnet(root: Path, identifiers: Sequence[str]) -> TestSet:
    """The 113 classes that ObjectNet shares with ImageNet, mapped by the authors' four files in `mappings/`."""
    folder, mappings = root / OBJECTNET / "images", root / OBJECTNET / "mappings"
    named: dict[str, str] = _read_json(mappings / "folder_to_objectnet_label.json")
    mapped: dict[str, str] = _read_json(mappings / "objectnet_to_imagenet_1k.json")
    numbers: dict[str, int] = _read_json(mappings / "pytorch_to_imagenet_2012_id.json")
    labels = read_lines(mappings / "imagenet_to_label_2012_v2")
    by_label = {labels[number]: int(place) for place, number in numbers.items() if number < len(labels)}
    by_class = list_folder(folder)["train"]
    shared = {name: files for name, files in by_class.items() if named.get(name) in mapped}
    try:
        right = [[by_label[label] for label in mapped[named[name]].split("; ")] for name in shared]
    except KeyError as error:
        raise UserError(
            f"{mappings} has the label {error}, which is not one of ImageNet's: download it again"
        ) from None
    source = file_source(folder, shared, tuple(shared))
    return TestSet(source=MappedSource(source=source, transform=crop_border), right=right_of(right)[source.labels])


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return parse_json(read_file(file), origin=file.name)
    except ValueError as error:
        if str(error).startswith(str(file)):
            raise
        raise UserError(f"{file} is damaged: download it again") from None


_V2 = "https://github.com/modestyachts/ImageNetV2"
_HENDRYCKS = "https://github.com/hendrycks"

TESTS = (
    Test(
        title="ImageNet",
        place="val",
        num_images=50_000,
        origin="https://image-net.org/challenges/LSVRC/2012/",
        open=open_original,
    ),
    Test(
        title="ReaL",
        place="real.json",
        num_images=46_837,
        origin="https://github.com/google-research/reassessed-imagenet",
        open=open_real,
    ),
    *(
        Test(title=title, place=place, num_images=10_000, origin=_V2, open=_by_number(place))
        for title, place in {
            "V2": "imagenetv2-matched-frequency-format-val",
            "V2, threshold 0.7": "imagenetv2-threshold0.7-format-val",
            "V2, top images": "imagenetv2-top-images-format-val",
        }.items()
    ),
    Test(title="ObjectNet", place=OBJECTNET, num_images=18_574, origin="https://objectnet.dev", open=open_objectnet),
    Test(
        title="A",
        place="imagenet-a",
        num_images=7_500,
        origin=f"{_HENDRYCKS}/natural-adv-examples",
        open=open_by_name("imagenet-a", few=True),
    ),
    Test(
        title="R",
        place="imagenet-r",
        num_images=30_000,
        origin=f"{_HENDRYCKS}/imagenet-r",
        open=open_by_name("imagenet-r", few=True),
    ),
    Test(
        title="Sketch",
        place="sketch",
        num_images=50_889,
        origin="https://github.com/HaohanWang/ImageNet-Sketch",
        open=open_by_name("sketch", few=False),
    ),
)
"""All test sets, in the order of tables."""
