"""VTAB's natural and specialized tasks: files laid out as their authors'."""

import csv
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from vitral.data.images.decode import UnreadableImage
from vitral.data.sources.source import Source, read_from
from vitral.datasets.registry import tasks_of
from vitral.datasets.vtab.fundus import eye_radius, normalise_fundus
from vitral.datasets.vtab.natural import open_caltech101, open_dtd, open_sun397, open_svhn
from vitral.datasets.vtab.specialized import (
    CAMELYON,
    GRADES,
    open_camelyon,
    open_eurosat,
    open_resisc45,
    open_retinopathy,
)

Opened = Callable[[Path], dict[str, Source]]


def write_image(file: Path, shade: int, size: tuple[int, int] = (12, 8)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, shade, shade)).save(file, quality=95)


def shades(source: Source) -> list[int]:
    """The grey of each image in the middle."""
    images = [read_from(source, index, channels=1) for index in range(len(source))]
    return [int(np.asarray(image)[image.height // 2, image.width // 2]) for image in images]


def labels(data: dict[str, Source]) -> dict[str, list[int]]:
    return {split: source.labels.tolist() for split, source in data.items()}


def sizes(data: dict[str, Source]) -> dict[str, int]:
    return {split: len(source) for split, source in data.items()}


def write_caltech101(root: Path) -> Path:
    for name, count in (("BACKGROUND_Google", 33), ("accordion", 40)):
        for number in range(count):
            write_image(root / "101_ObjectCategories" / name / f"image_{number + 1:04d}.jpg", 5 * number)
    return root


def test_caltech101(tmp_path: Path) -> None:
    """Thirty images of each class to train on, whatever their number, and the background is a class."""
    data = open_caltech101(write_caltech101(tmp_path))
    assert sizes(data) == {"train": 60, "test": 13}
    assert data["train"].classes == ("BACKGROUND_Google", "accordion")
    assert np.bincount(data["train"].labels).tolist() == [30, 30]
    assert np.bincount(data["test"].labels).tolist() == [3, 10]
    names = [source.name(index) for source in data.values() for index in range(len(source))]
    assert len(set(names)) == 73
    assert [data["test"].name(index) for index in range(3)] != sorted(names)[30:33], "no particular images"


def write_dtd(root: Path) -> Path:
    listed = {"train1": ["banded/banded_0002.jpg", "woven/woven_0001.jpg"], "val1": ["woven/woven_0003.jpg"]}
    for name, lines in {**listed, "test1": ["banded/banded_0009.jpg"], "train2": ["banded/banded_0009.jpg"]}.items():
        (root / "labels").mkdir(exist_ok=True)
        (root / "labels" / f"{name}.txt").write_text("\n".join(lines) + "\n")
        for line in lines:
            write_image(root / "images" / line, 10 * int(line[-5]))
    return root


def test_dtd_is_its_first_division(tmp_path: Path) -> None:
    data = open_dtd(write_dtd(tmp_path))
    assert {split: source.labels.tolist() for split, source in data.items()} == {
        "train": [0, 1],
        "val": [1],
        "test": [0],
    }
    assert shades(data["train"]) + shades(data["val"]) + shades(data["test"]) == [20, 10, 30, 90]


def write_sun397(root: Path) -> Path:
    listed = {
        "tr": ["/a/abbey/sun_a.jpg", "/a/apartment_building/outdoor/sun_b.jpg"],
        "va": ["/a/abbey/sun_c.jpg"],
        "te": ["/a/apartment_building/outdoor/sun_d.jpg"],
    }
    for name, lines in listed.items():
        (root / f"sun397_tfds_{name}.txt").write_text("\n".join(lines))
        for line in lines:
            write_image(root / "SUN397" / line[1:], 10 * "abcd".index(line[-5]))
    return root


def test_sun397(tmp_path: Path) -> None:
    """Some scenes have two levels of folders."""
    data = open_sun397(write_sun397(tmp_path))
    assert data["train"].classes == ("a/abbey", "a/apartment_building/outdoor")
    assert {split: source.labels.tolist() for split, source in data.items()} == {
        "train": [0, 1],
        "val": [0],
        "test": [1],
    }
    assert shades(data["test"]) == [30]
    (tmp_path / "sun397_tfds_te.txt").write_text("/z/zoo/sun_d.jpg")
    with pytest.raises(ValueError, match="the class 'z/zoo'"):
        open_sun397(tmp_path)


def write_svhn(root: Path) -> Path:
    for split, digits in (("train", [1, 10, 9]), ("test", [10, 3])):
        images = np.zeros((32, 32, 3, len(digits)), np.uint8)
        images[:] = 10 * np.arange(len(digits))
        savemat(root / f"{split}_32x32.mat", {"X": images, "y": np.array(digits, np.uint8)[:, None]})
    return root


def test_svhn_counts_ten_as_nought(tmp_path: Path) -> None:
    data = open_svhn(write_svhn(tmp_path))
    assert data["train"].labels.tolist() == [1, 0, 9]
    assert data["test"].labels.tolist() == [0, 3]
    assert shades(data["train"]) == [0, 10, 20]
    images = np.zeros((32, 32, 3, 2), np.uint8)
    savemat(tmp_path / "test_32x32.mat", {"X": images, "y": np.array([[11], [1]], np.uint8)})
    with pytest.raises(ValueError, match="holds no cropped house numbers"):
        open_svhn(tmp_path)


def write_camelyon(root: Path) -> Path:
    for part, count in (("train", 4), ("valid", 2), ("test", 3)):
        images = np.zeros((count, 96, 96, 3), np.uint8)
        images[:] = 10 * np.arange(count, dtype=np.uint8)[:, None, None, None]
        for what, values in (("x", images), ("y", (np.arange(count) % 2).reshape(-1, 1, 1, 1))):
            with h5py.File(root / f"{CAMELYON}_{part}_{what}.h5", "w") as file:
                file.create_dataset(what, data=values.astype(np.uint8), chunks=True, compression="gzip")
    return root


def test_camelyon(tmp_path: Path) -> None:
    data = open_camelyon(write_camelyon(tmp_path))
    assert labels(data) == {"train": [0, 1, 0, 1], "val": [0, 1], "test": [0, 1, 0]}
    assert shades(data["train"]) == [0, 10, 20, 30]
    file = tmp_path / f"{CAMELYON}_valid_y.h5"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"_valid_x\.h5 or .*_valid_y\.h5 is damaged, or not PatchCamelyon's"):
        open_camelyon(tmp_path)
    file.unlink()
    with pytest.raises(ValueError, match=rf"there is no {file}: unpack the authors' .*\.gz there"):
        open_camelyon(tmp_path)


def test_a_patch_that_cannot_be_unpacked_is_named(tmp_path: Path) -> None:
    file = write_camelyon(tmp_path) / f"{CAMELYON}_test_x.h5"
    with h5py.File(file) as archive:
        images = archive["x"]
        assert isinstance(images, h5py.Dataset)
        place = images.id.get_chunk_info(0).byte_offset
    content = bytearray(file.read_bytes())
    content[place : place + 40] = bytes(40)
    file.write_bytes(content)
    source = open_camelyon(tmp_path)["test"]
    with pytest.raises(UnreadableImage, match=rf"^{file}\[0\] cannot be read as an image: [^\n]+$"):
        read_from(source, 0, channels=3)


def write_folders(root: Path, folder: str, first: str) -> Path:
    for label, name in enumerate((first, "zoo")):
        for number in range(5):
            write_image(root / folder / name / f"{name}_{number}.jpg", 100 * label + 10 * number)
    return root


@pytest.mark.parametrize(
    ("opened", "folder", "first"),
    [
        (open_eurosat, "2750", "AnnualCrop"),
        (open_eurosat, "EuroSAT_RGB", "AnnualCrop"),
        (open_resisc45, "NWPU-RESISC45", "airplane"),
    ],
)
def test_folders_without_splits(opened: Opened, folder: str, first: str, tmp_path: Path) -> None:
    data = opened(write_folders(tmp_path, folder, first))
    assert sizes(data) == {"train": 6, "val": 2, "test": 2}
    seen = [shade for source in data.values() for shade in shades(source)]
    assert sorted(seen) == [0, 10, 20, 30, 40, 100, 110, 120, 130, 140], "each image once"
    assert [label for source in data.values() for label in source.labels.tolist()] == [shade // 100 for shade in seen]


def eye(height: int, width: int, radius: int) -> np.ndarray:
    rows, columns = np.ogrid[:height, :width]
    inside = (rows - height // 2) ** 2 + (columns - width // 2) ** 2 <= radius**2
    return np.where(inside[:, :, None], np.array([180, 90, 40]), 0).astype(np.uint8)


def test_an_eye_is_brought_to_one_size_and_one_light() -> None:
    image = eye(400, 600, 150)
    assert eye_radius(image) == pytest.approx(150, abs=1)
    shown = normalise_fundus(image)
    assert shown.shape == (540, 540, 3), "90 % of 300 pixels on each side of the middle"
    assert (shown[250:290, 250:290] == 128).all(), "even light is grey"
    assert (shown[:40, :40] == 128).all(), "as is what lies beyond the circle"
    assert normalise_fundus(eye(400, 600, 75)).shape == (540, 540, 3), "whatever the eye's size"


def test_where_there_is_no_eye_half_the_height_is_its_radius() -> None:
    assert eye_radius(np.zeros((80, 100, 3), np.uint8)) == 40


def test_light_changes_are_four_times_as_strong() -> None:
    """A step of 8 in the light is one of 32 at the edge, less what the blur leaves of it there."""
    image = eye(600, 600, 290)
    image[:, 300:][image[:, 300:] > 0] += 8
    shown = normalise_fundus(image)[270].astype(int)[:, 0]
    assert 25 < shown[260:280].max() - shown[260:280].min() <= 33


def write_retinopathy(root: Path) -> Path:
    tables = {
        "trainLabels.csv": [("10_left", "0"), ("10_right", "4")],
        "retinopathy_solution.csv": [
            ("1_left", "1", "Public"),
            ("1_right", "2", "Private"),
            ("2_left", "3", "Private"),
        ],
    }
    for (table, rows), folder in zip(tables.items(), ("train", "test"), strict=True):
        (root / folder).mkdir(parents=True)
        with (root / table).open("w", newline="") as file:
            csv.writer(file).writerows([("image", "level", "Usage")[: len(rows[0])], *rows])
        for image, *_ in rows:
            Image.fromarray(eye(80, 100, 35)).save(root / folder / f"{image}.jpeg")
    return root


def test_retinopathy(tmp_path: Path) -> None:
    data = open_retinopathy(write_retinopathy(tmp_path))
    assert {split: source.labels.tolist() for split, source in data.items()} == {
        "train": [0, 4],
        "val": [1],
        "test": [2, 3],
    }
    assert data["train"].classes == GRADES
    assert read_from(data["test"], 1, channels=3).size == (540, 540)
    table = tmp_path / "trainLabels.csv"
    for text in ("image,grade\n10_left,0\n", "image,level\n10_left,none\n", f"image,level\n10_left,{10**30}\n"):
        table.write_text(text)
        with pytest.raises(ValueError, match=rf"^{table} lacks the columns image, level and Usage"):
            open_retinopathy(tmp_path)
    for grade in ("5", "-1"):
        table.write_text(f"image,level\n10_left,{grade}\n")
        with pytest.raises(ValueError, match=rf"^{table} has no images, or grades other than 0 to 4"):
            open_retinopathy(tmp_path)


@pytest.mark.parametrize(
    "opened",
    [open_caltech101, open_dtd, open_sun397, open_svhn, open_camelyon, open_eurosat, open_resisc45, open_retinopathy],
)
def test_what_is_not_there_is_named(opened: Opened, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"{tmp_path}\S* ?(has no|cannot be read|: unpack)"):
        opened(tmp_path)


VTAB1K = tasks_of("vtab1k").values()


def test_nineteen_tasks_in_the_order_of_table_9() -> None:
    groups = {"natural": 7, "specialized": 4, "structured": 8}
    assert [task.group for task in VTAB1K] == [group for group, count in groups.items() for _ in range(count)]
    assert {task.title: task.data.num_classes for task in VTAB1K} == {
        "Caltech101": 102,
        "CIFAR-100": 100,
        "DTD": 47,
        "Flowers102": 102,
        "Pets": 37,
        "Sun397": 397,
        "SVHN": 10,
        "Camelyon": 2,
        "EuroSAT": 10,
        "Resisc45": 45,
        "Retinopathy": 5,
        "Clevr-Count": 8,
        "Clevr-Dist": 6,
        "DMLab": 6,
        "dSpr-Loc": 16,
        "dSpr-Ori": 16,
        "KITTI-Dist": 4,
        "sNORB-Azim": 18,
        "sNORB-Elev": 9,
    }


def test_exceptions_from_cutting_and_mirroring() -> None:
    """BiT's, which the paper follows."""
    assert {task.title for task in VTAB1K if not task.flip} == {
        "dSpr-Loc",
        "dSpr-Ori",
        "sNORB-Azim",
    }
    uncut = {"Clevr-Count", "Clevr-Dist", "DMLab", "KITTI-Dist", "dSpr-Loc"}
    assert {task.title for task in VTAB1K if not task.crop} == uncut
