"""Groups: from a column or a pattern, images of one patient are on one side of every split that Vitral makes."""

from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from vitral.data.config import DataConfig
from vitral.data.sources.source import Source
from vitral.datasets.opening import open_data


def folders(root: Path, *, patients: int = 10, each: int = 4) -> Path:
    """Images of two classes; each patient has images of both."""
    for label in "ab":
        (root / label).mkdir(parents=True)
        for patient in range(patients):
            for number in range(each):
                Image.new("L", (2, 2)).save(root / label / f"p{patient:02d}_{number}.png")
    return root


def labels(root: Path, *, blank: int = 0) -> Path:
    """A label file of such folders with a column of patients, the first `blank` of them empty."""
    files = sorted(folders(root).rglob("*.png"))
    rows = [
        f"{file.relative_to(root)},{file.parent.name},{file.name[:3] if n >= blank else ''}"
        for n, file in enumerate(files)
    ]
    (root / "labels.csv").write_text("\n".join(["image,label,patient", *rows]))
    return root / "labels.csv"


def patients(source: Source) -> set[str]:
    return {Path(source.name(index)).name[:3] for index in range(len(source))}


def check_apart(data: dict[str, Source]) -> None:
    found = [patients(source) for source in data.values()]
    assert sum(map(len, found)) == len(set.union(*found))


def opened(source: str, root: Path | None, **options: Any) -> dict[str, Source]:
    return open_data(DataConfig(source=source, root=root, **options))


@pytest.mark.parametrize("val_fraction", [None, 0.25])
def test_a_pattern(tmp_path: Path, caplog: pytest.LogCaptureFixture, val_fraction: float | None) -> None:
    data = opened("folder", folders(tmp_path), group_pattern=r"(p\d+)_", val_fraction=val_fraction)
    check_apart(data)
    assert len(data["test"]) == 16
    assert data["test"].labels.tolist() == [0] * 8 + [1] * 8
    assert len(data["val"]) == 16 if val_fraction else "val" not in data
    assert all(fact in caplog.text for fact in ("held out 2 of 10 groups as test", "16 of 80 images", "20.0%"))


def test_a_pattern_without_a_group_takes_the_whole_match(tmp_path: Path) -> None:
    check_apart(opened("images", folders(tmp_path), group_pattern=r"p\d+"))


def test_a_column(tmp_path: Path) -> None:
    data = opened("csv", labels(tmp_path), group_column="patient", val_fraction=0.25)
    check_apart(data)
    assert {split: len(source) for split, source in data.items()} == {"train": 48, "test": 16, "val": 16}


def test_a_column_of_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    files = sorted(folders(tmp_path / "images").rglob("*.png"))
    columns = {
        "image": [{"bytes": file.read_bytes(), "path": None} for file in files],
        "label": [file.parent.name for file in files],
        "patient": [int(file.name[1:3]) for file in files],
    }
    table = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    table.save_to_disk(tmp_path / "saved")
    data = opened("hub", tmp_path / "saved", group_column="patient")
    sides = [{columns["patient"][int(row)] for row in data[split].indices} for split in ("train", "test")]
    assert not sides[0] & sides[1]
    with pytest.raises(ValueError, match=r"has no column 'lost', only image, label, patient: change --data\.group-col"):
        opened("hub", tmp_path / "saved", group_column="lost")


def test_columns_of_a_table_that_are_not_used_are_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    files = sorted(folders(tmp_path / "images", patients=2).rglob("*.png"))
    columns = {
        "image": [{"bytes": file.read_bytes(), "path": None} for file in files],
        "label": [file.parent.name for file in files],
        "patient": [1] * len(files),
        "split": ["train"] * len(files),
    }
    datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image()).save_to_disk(tmp_path / "saved")
    opened("hub", tmp_path / "saved")
    assert "the column 'patient' is not used; --data.group-column patient" in caplog.text
    assert "the column 'split' is not used; give each split its own table" in caplog.text


def test_images_without_a_group_are_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = opened("csv", labels(tmp_path, blank=3), group_column="patient")
    assert "3 of 80 train images have no patient" in caplog.text
    assert "a group of its own" in caplog.text
    assert len(data["test"]) == 16
    (tmp_path / "a" / "other.png").write_bytes((tmp_path / "a" / "p00_0.png").read_bytes())
    (tmp_path / "labels.csv").unlink()
    opened("folder", tmp_path, group_pattern=r"(p\d+)_")
    assert "80 of 81 train images, not a/other.png" in caplog.text
    assert "a group of its own" in caplog.text


def test_groups_that_the_data_divides_are_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folders(tmp_path / "train")
    folders(tmp_path / "test", patients=3)
    opened("folder", tmp_path, group_pattern=r"(p\d+)_")
    assert "3 groups, such as p00, have images both in train and in test" in caplog.text


def test_a_class_of_one_group_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folders(tmp_path)
    (tmp_path / "rare").mkdir()
    Image.new("L", (2, 2)).save(tmp_path / "rare" / "p77_0.png")
    assert 2 in opened("folder", tmp_path, group_pattern=r"(p\d+)_")["train"].labels
    assert "test has no images of some classes" in caplog.text
    assert "'rare'" in caplog.text


@pytest.mark.parametrize(
    ("source", "options", "sentence"),
    [
        ("folder", {"group_pattern": "x([0-9]+)"}, "matches no image of"),
        ("folder", {"group_column": "patient"}, "has no columns for --data.group-column: give --data.group-pattern"),
        (
            "csv",
            {"group_column": "lost"},
            "has no column 'lost', only image, label, patient: change --data.group-column",
        ),
        ("digits", {"group_pattern": "x"}, "matches no image of digits"),
        ("folder", {"group_pattern": "("}, "--data.group-pattern '(' is no regular expression"),
        ("csv", {"group_pattern": "p", "group_column": "patient"}, "leave one of them out"),
    ],
)
def test_wrong_groups(tmp_path: Path, source: str, options: dict[str, str], sentence: str) -> None:
    file = labels(tmp_path)
    root = {"csv": file, "folder": tmp_path, "digits": None}[source]
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        opened(source, root, **options)
    assert sentence in str(caught.value)
