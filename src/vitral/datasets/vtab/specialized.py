"""VTAB's specialized tasks: tissue, satellite and aerial images, and the back of the eye."""

import csv
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from vitral.data.extra import optional
from vitral.data.images.decode import UnreadableImage
from vitral.data.sources.files import file_source
from vitral.data.sources.folder import list_folder
from vitral.data.sources.source import Changed, FileSource, Source
from vitral.datasets.originals.files import content, holding
from vitral.datasets.registry import Preset
from vitral.datasets.vtab.building import divided, vtab_task
from vitral.datasets.vtab.fundus import fundus
from vitral.errors import UserError

__all__ = ["SPECIALIZED", "open_camelyon", "open_eurosat", "open_resisc45", "open_retinopathy"]

CAMELYON = "camelyonpatch_level_2_split"


@dataclass(frozen=True, kw_only=True, eq=False)
class Patches:
    """Images in an HDF5 file, read when asked for."""

    file: Path
    labels: Int64[np.ndarray, " n"]
    classes: tuple[str, ...] = ("no tumour", "tumour")

    def __len__(self) -> int:
        return len(self.labels)

    def stored(self, index: int) -> Image.Image:
        """See `Source`. The file is opened each time, as an open one cannot go to other processes."""
        h5py = optional("h5py", purpose="PatchCamelyon")
        try:
            with h5py.File(self.file) as archive:
                return Image.fromarray(archive["x"][index])
        # a damaged file makes HDF5 raise almost anything
        except Exception as error:
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
            shape, found = archive["x"].shape, np.asarray(other["y"]).reshape(-1).astype(np.int64)
    # a damaged file makes HDF5 raise almost anything
    except Exception:
        raise UserError(f"{images} or {labels.name} is damaged, or not PatchCamelyon's: fetch it again") from None
    if shape != (len(found), 96, 96, 3) or not set(found.tolist()) <= {0, 1}:
        raise UserError(f"{images} and {labels.name} do not fit each other: fetch them again")
    return Patches(file=images, labels=found)


def open_eurosat(root: Path) -> dict[str, Source]:
    """EuroSAT in colour: `2750/AnnualCrop/AnnualCrop_1.jpg`, or the same in `EuroSAT_RGB/`.

    Raises:
        UserError: there are no such folders.
    """
    return _folders(holding(root, "AnnualCrop", "EuroSAT_RGB" if (root / "EuroSAT_RGB").is_dir() else "2750"))


def open_resisc45(root: Path) -> dict[str, Source]:
    """RESISC45: `NWPU-RESISC45/airplane/airplane_001.jpg`.

    Raises:
        UserError: there are no such folders.
    """
    return _folders(holding(root, "airplane", "NWPU-RESISC45"))


def _folders(root: Path) -> dict[str, Source]:
    """A folder of images without splits: 60 % to train on, 20 % to choose by, 20 % to test."""
    by_class = list_folder(root)["train"]
    train, val, test = divided(file_source(root, by_class, tuple(by_class)), (0.6, 0.2))
    return {"train": train, "val": val, "test": test}


def eye(image: Image.Image) -> bytes:
    """The back of an eye, brought to one size and one light: a JPEG of quality 72, as TensorFlow Datasets stores it."""
    pixels: UInt8[np.ndarray, "h w 3"] = fundus(np.asarray(image))
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=72)
    return stream.getvalue()


GRADES = ("none", "mild", "moderate", "severe", "proliferative")


def open_retinopathy(root: Path) -> dict[str, Source]:
    """Kaggle's Diabetic Retinopathy Detection: `trainLabels.csv` and `train/*.jpeg`, `retinopathy_solution.csv` and
    `test/*.jpeg`, whose public part is the validation split and whose private part the test split.

    Raises:
        UserError: files are missing or damaged.
    """
    train = _graded(root, "trainLabels.csv", "train", usage=None)
    val, test = (_graded(root, "retinopathy_solution.csv", "test", usage=part) for part in ("Public", "Private"))
    return {"train": train, "val": val, "test": test}


def _graded(root: Path, table: str, folder: str, *, usage: str | None) -> Changed:
    read = content(root / table)
    try:
        rows = list(csv.DictReader(read.decode().splitlines()))
        chosen = [row for row in rows if usage is None or row["Usage"] == usage]
        labels = np.array([int(row["level"]) for row in chosen], np.int64)
        files = tuple(f"{folder}/{row['image']}.jpeg" for row in chosen)
    except (KeyError, TypeError, ValueError, OverflowError, csv.Error):
        raise UserError(
            f"{root / table} has not the columns image, level and Usage, or levels that are no numbers: fetch it again"
        ) from None
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= len(GRADES):
        raise UserError(f"{root / table} has no images, or grades that are not 0 to 4: fetch it again")
    photographs = FileSource(root=root, files=files, labels=labels, classes=GRADES)
    return Changed(source=photographs, change=eye)


ORIGINALS = {
    "camelyon": Preset(
        title="PatchCamelyon",
        num_classes=2,
        num_images={"train": 262_144, "val": 32_768, "test": 32_768},
        needs=f"{CAMELYON}_train_x.h5, _train_y.h5, and those of valid and test, unpacked",
        origin="https://github.com/basveeling/pcam",
        open=open_camelyon,
    ),
    "eurosat": Preset(
        title="EuroSAT",
        num_classes=10,
        num_images={"train": 16_200, "val": 5_400, "test": 5_400},
        needs="2750/ or EuroSAT_RGB/, the images in colour",
        origin="https://github.com/phelber/EuroSAT",
        open=open_eurosat,
    ),
    "resisc45": Preset(
        title="RESISC45",
        num_classes=45,
        num_images={"train": 18_900, "val": 6_300, "test": 6_300},
        needs="NWPU-RESISC45/",
        origin="https://gcheng-nwpu.github.io/",
        open=open_resisc45,
    ),
    "retinopathy": Preset(
        title="Diabetic Retinopathy Detection",
        num_classes=5,
        num_images={"train": 35_126, "val": 10_906, "test": 42_670},
        needs="train/, trainLabels.csv, test/ and retinopathy_solution.csv",
        origin="https://www.kaggle.com/c/diabetic-retinopathy-detection, the last from "
        "https://storage.googleapis.com/kaggle-forum-message-attachments/90528/2877/retinopathy_solution.csv",
        open=open_retinopathy,
    ),
}

SPECIALIZED = (
    vtab_task("camelyon", "Camelyon", "specialized", ORIGINALS["camelyon"], folder="camelyon"),
    vtab_task("eurosat", "EuroSAT", "specialized", ORIGINALS["eurosat"], folder="eurosat"),
    vtab_task("resisc45", "Resisc45", "specialized", ORIGINALS["resisc45"], folder="resisc45"),
    vtab_task("retinopathy", "Retinopathy", "specialized", ORIGINALS["retinopathy"], folder="retinopathy"),
)
"""Four tasks, in the order of the paper's Table 9."""
