"""VTAB's specialized tasks: tissue, satellite and aerial images, and retinal photographs."""

import csv
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from vitral.data.extra import optional
from vitral.data.images.decode import UnreadableImage, is_machine_error
from vitral.data.sources.files import file_source
from vitral.data.sources.folder import list_folder
from vitral.data.sources.source import FileSource, MappedSource, Source
from vitral.datasets.originals.files import find_folder, read_file
from vitral.datasets.vtab.sampling import split_by_fractions
from vitral.errors import UserError

__all__ = ["open_camelyon", "open_eurosat", "open_resisc45", "open_retinopathy"]

CAMELYON = "camelyonpatch_level_2_split"


@dataclass(frozen=True, kw_only=True, eq=False)
class Patches:
    """Images in an HDF5 file, read on access."""

    file: Path
    labels: Int64[np.ndarray, " n"]
    classes: tuple[str, ...] = ("no tumour", "tumour")

    def __len__(self) -> int:
        return len(self.labels)

    def stored(self, index: int) -> Image.Image:
        """See `Source`. The file is opened each time, because an open HDF5 file cannot be passed to other processes."""
        h5py = optional("h5py", purpose="PatchCamelyon")
        try:
            with h5py.File(self.file) as archive:
                return Image.fromarray(archive["x"][index])
        # a damaged file makes HDF5 raise almost anything
        except Exception as error:
            if is_machine_error(error):
                raise
            raise UnreadableImage(f"{self.name(index)} cannot be read as an image: {error}") from error

    def name(self, index: int) -> str:
        """See `Source`."""
        return f"{self.file}[{index}]"


def open_camelyon(root: Path) -> dict[str, Source]:
    """PatchCamelyon's three pairs of HDF5 files, `..._x.h5` and `..._y.h5`, unpacked.

    Raises:
        UserError: files are missing or damaged, or h5py is not installed.
    """
    parts = {"train": "train", "val": "valid", "test": "test"}
    return {split: _patches(root, f"{CAMELYON}_{part}") for split, part in parts.items()}


def _patches(root: Path, stem: str) -> Patches:
    h5py = optional("h5py", purpose="PatchCamelyon")
    images, labels = root / f"{stem}_x.h5", root / f"{stem}_y.h5"
    for file in (images, labels):
        if not file.is_file():
            raise UserError(f"there is no {file}: unpack the authors' {file.name}.gz there")
    try:
        with h5py.File(images) as archive, h5py.File(labels) as other:
            shape, classes = archive["x"].shape, np.asarray(other["y"]).reshape(-1).astype(np.int64)
    # a damaged file makes HDF5 raise almost anything
    except Exception:
        raise UserError(f"{images} or {labels.name} is damaged, or not PatchCamelyon's: download it again") from None
    if shape != (len(classes), 96, 96, 3) or not set(classes.tolist()) <= {0, 1}:
        raise UserError(f"{images} and {labels.name} do not match: download them again")
    return Patches(file=images, labels=classes)


def open_eurosat(root: Path) -> dict[str, Source]:
    """EuroSAT in colour: `2750/AnnualCrop/AnnualCrop_1.jpg`, or the same in `EuroSAT_RGB/`.

    Raises:
        UserError: there are no such folders.
    """
    return _folders(find_folder(root, "AnnualCrop", "EuroSAT_RGB" if (root / "EuroSAT_RGB").is_dir() else "2750"))


def open_resisc45(root: Path) -> dict[str, Source]:
    """RESISC45: `NWPU-RESISC45/airplane/airplane_001.jpg`.

    Raises:
        UserError: there are no such folders.
    """
    return _folders(find_folder(root, "airplane", "NWPU-RESISC45"))


def _folders(root: Path) -> dict[str, Source]:
    """A folder of images without splits: 60 % train, 20 % val, 20 % test."""
    by_class = list_folder(root)["train"]
    train, val, test = split_by_fractions(file_source(root, by_class, tuple(by_class)), (0.6, 0.2))
    return {"train": train, "val": val, "test": test}


def normalised_jpeg(image: Image.Image) -> bytes:
    """A retinal photograph, normalised in size and brightness: a JPEG of quality 72, as in TensorFlow Datasets."""
    from vitral.datasets.vtab.fundus import normalise_fundus  # imports SciPy

    pixels: UInt8[np.ndarray, "h w 3"] = normalise_fundus(np.asarray(image))
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=72)
    return stream.getvalue()


GRADES = ("none", "mild", "moderate", "severe", "proliferative")


def open_retinopathy(root: Path) -> dict[str, Source]:
    """Kaggle's Diabetic Retinopathy Detection: `trainLabels.csv` and `train/*.jpeg`, `retinopathy_solution.csv` and
    `test/*.jpeg`. The public part of the solution is the validation split, the private part the test split.

    Raises:
        UserError: files are missing or damaged.
    """
    train = _graded(root, "trainLabels.csv", "train", usage=None)
    val, test = (_graded(root, "retinopathy_solution.csv", "test", usage=part) for part in ("Public", "Private"))
    return {"train": train, "val": val, "test": test}


def _graded(root: Path, table: str, folder: str, *, usage: str | None) -> MappedSource:
    content = read_file(root / table)
    try:
        rows = list(csv.DictReader(content.decode().splitlines()))
        selected = [row for row in rows if usage is None or row["Usage"] == usage]
        labels = np.array([int(row["level"]) for row in selected], np.int64)
        files = tuple(f"{folder}/{row['image']}.jpeg" for row in selected)
    except (KeyError, TypeError, ValueError, OverflowError, csv.Error):
        raise UserError(
            f"{root / table} lacks the columns image, level and Usage, or has a level that is not a number: "
            "download it again"
        ) from None
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= len(GRADES):
        raise UserError(f"{root / table} has no images, or grades other than 0 to 4: download it again")
    photographs = FileSource(root=root, files=files, labels=labels, classes=GRADES)
    return MappedSource(source=photographs, transform=normalised_jpeg)
