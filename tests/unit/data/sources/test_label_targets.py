"""Several labels and numbers in label files and folders: read as meant, said on the terminal, or refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vitral.data.config import DataConfig
from vitral.data.sources.multi_label_split import multi_label_split
from vitral.data.sources.source import Source, Subset
from vitral.data.sources.targets import label_counts, label_text, split_targets
from vitral.datasets.opening import open_data, open_stored


def photos(folder: Path, count: int) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("L", (2, 2), number).save(folder / f"{number}.png")
    return [f"{number}.png" for number in range(count)]


def table(folder: Path, header: str, *rows: str) -> Path:
    """A CSV file of photographs 0.png, 1.png and so on, with what each row says after its path."""
    names = photos(folder, len(rows))
    lines = [header, *(f"{name},{row}" for name, row in zip(names, rows, strict=True))]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder / "labels.csv"


def opened(root: Path, target: str = "multi-label", **options: Any) -> dict[str, Source]:
    return open_stored(DataConfig(source="csv", root=root, target=target, **options))


def sets(source: Source) -> list[str]:
    """The labels of each image in words."""
    return [label_text(source, index) for index in range(len(source))]


@pytest.mark.parametrize(
    ("cells", "shown"),
    [
        (("cat|dog", "dog", "cat| cat |"), "separated by '|': 'cat|dog' has 2, 'cat', 'dog'"),
        (("cat;dog", "dog", "cat"), "separated by ';'"),
        (('"cat, dog"', "dog", "cat"), "separated by ','"),
        (("cat dog", "dog", "cat"), "separated by spaces"),
    ],
)
def test_labels_in_a_cell(tmp_path: Path, caplog: pytest.LogCaptureFixture, cells: tuple[str, ...], shown: str) -> None:
    source = opened(table(tmp_path, "image,label", *cells))["train"]
    assert source.classes == ("cat", "dog")
    assert source.labels.dtype == np.float32
    assert source.labels.tolist() == [[1, 1], [0, 1], [1, 0]]
    assert sets(source) == ["cat, dog", "dog", "cat"]
    assert shown in caplog.text
    assert "--data.label-separator changes it" in caplog.text


def test_spaces_in_names_separate_nothing(tmp_path: Path) -> None:
    source = opened(table(tmp_path, "image,label", "red panda", "brown bear", "cat"))["train"]
    assert source.classes == ("brown bear", "cat", "red panda")


def test_a_separator_of_ones_own(tmp_path: Path) -> None:
    file = table(tmp_path, "image,label", "a|b / c", "c", "a|b")
    assert opened(file, label_separator=" / ")["train"].classes == ("a|b", "c")
    with pytest.raises(ValueError, match=r"has no '#' in its column label, such as in 'a\|b / c': change"):
        opened(file, label_separator="#")
    for wrong in (dict(target="class", label_separator="|"), dict(label_separator="")):
        with pytest.raises(ValueError, match=r"--data\.label-separator"):
            opened(file, **wrong)


@given(
    st.lists(
        st.lists(st.text("abc 0é", min_size=1).filter(lambda text: text == text.strip()), max_size=3),
        min_size=3,
        max_size=3,
    )
)
def test_any_labels_survive(tmp_path_factory: pytest.TempPathFactory, label_sets: list[list[str]]) -> None:
    if len({label for labels in label_sets for label in labels}) < 2:
        return
    folder = tmp_path_factory.mktemp("labels")
    rows = zip(photos(folder, 3), label_sets, strict=True)
    (folder / "l.jsonl").write_text("\n".join(json.dumps({"image": name, "label": labels}) for name, labels in rows))
    source = opened(folder / "l.jsonl", label_separator=None)["train"]
    found = [{source.classes[number] for number in np.flatnonzero(row)} for row in source.labels]
    if any(len(labels) > 1 for labels in label_sets):
        assert found == [set(labels) for labels in label_sets]


def test_a_column_of_zeros_and_ones_for_each_label(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = table(tmp_path, "image,sky,sea,sand", "1,1,0", "0,0,0", "0,1,1", "1,0,0")
    source = opened(file)["train"]
    assert source.classes == ("sand", "sea", "sky")
    assert source.labels.tolist() == [[0, 1, 1], [0, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert "labels from 3 columns of 0 and 1" in caplog.text
    assert "1 image has no label" in caplog.text
    with pytest.raises(ValueError, match=r"has the classes .* in row 2: .*--data\.target multi-label"):
        opened(file, target="class")
    with pytest.raises(ValueError, match=r"3 columns of 0 and 1: leave out --data\.label-separator"):
        opened(file, label_separator="|")


def test_rows_of_one_image_are_merged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    photos(tmp_path, 2)
    (tmp_path / "l.csv").write_text("image,label\n0.png,a\n0.png,b\n1.png,b\n")
    source = opened(tmp_path / "l.csv")["train"]
    assert sets(source) == ["a, b", "b"]
    assert "names 1 images more than once: each has the labels of all of its rows" in caplog.text
    with pytest.raises(ValueError, match=r"keep one, or learn both with --data\.target multi-label"):
        opened(tmp_path / "l.csv", target="class")


def test_several_categories_and_choices(tmp_path: Path) -> None:
    photos(tmp_path, 2)
    coco = {
        "images": [{"id": number, "file_name": f"{number}.png"} for number in range(2)],
        "categories": [{"id": 1, "name": "traffic light"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"image_id": image, "category_id": category} for image, category in [(0, 1), (0, 2), (0, 2), (1, 2)]
        ],
    }
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    assert sets(opened(tmp_path / "coco.json")["train"]) == ["dog, traffic light", "dog"]
    with pytest.raises(ValueError, match=r"one class for each image, or all of them with --data\.target multi-label"):
        opened(tmp_path / "coco.json", target="class")
    results = [["cat", "dog"], ["dog"]]
    tasks = [
        {
            "data": {"image": f"{number}.png"},
            "annotations": [{"result": [{"type": "choices", "from_name": "what", "value": {"choices": chosen}}]}],
        }
        for number, chosen in enumerate(results)
    ]
    (tmp_path / "studio.json").write_text(json.dumps(tasks))
    assert sets(opened(tmp_path / "studio.json")["train"]) == ["cat, dog", "dog"]


def test_one_image_in_several_folders(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    photos(tmp_path / "cat", 3)
    (tmp_path / "dog").mkdir()
    shutil.copy(tmp_path / "cat" / "1.png", tmp_path / "dog" / "1.png")
    Image.new("L", (2, 2), 99).save(tmp_path / "dog" / "2.png")  # another picture with the name of one
    source = open_stored(DataConfig(source="folder", root=tmp_path, target="multi-label"))["train"]
    names = [str(Path(source.name(index)).relative_to(tmp_path)) for index in range(len(source))]
    assert dict(zip(names, sets(source), strict=True)) == {
        "cat/0.png": "cat",
        "cat/1.png": "cat, dog",
        "cat/2.png": "cat",
        "dog/2.png": "dog",
    }
    assert "1 of 4 train images are in several folders" in caplog.text
    with pytest.raises(ValueError, match="no label file with a number for each image"):
        open_stored(DataConfig(source="folder", root=tmp_path, target="regression"))


def test_numbers(tmp_path: Path) -> None:
    file = table(tmp_path, "image,species,age", "cat,1.5", "dog,-2", "cat,3e1")
    source = opened(file, target="regression")["train"]
    assert source.classes == ("age",)
    assert source.labels.tolist() == [[1.5], [-2], [30]]
    assert label_text(source, 2) == "30"
    assert label_counts(source).tolist() == [3]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("old", "has 'old' in row 3 of its column age, and --data.target regression needs a number"),
        ("", "has no number in row 3 of its column age"),
        ("nan", "has 'nan' in row 3"),
        ("1e39", "has '1e39' in row 3"),
    ],
)
def test_what_is_no_number_is_refused(tmp_path: Path, cell: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        opened(table(tmp_path, "image,age", "3", cell), target="regression")


def test_labels_that_cannot_be_learned_are_refused(tmp_path: Path) -> None:
    file = table(tmp_path / "one", "image,label", "cat", "cat")
    with pytest.raises(ValueError, match=r"only the label 'cat': --data\.target multi-label needs at least two"):
        opened(file)
    file = table(tmp_path / "val", "image,label,split", "cat,train", "dog,train", "dog|owl,val")
    with pytest.raises(ValueError, match="has the label 'owl' in its val images only"):
        opened(file)
    file = table(tmp_path / "named", "image,label", "cat", "dog")
    with pytest.raises(ValueError, match="no training image with the label 'owl'"):
        opened(file, class_names=("cat", "dog", "owl"))
    with pytest.raises(ValueError, match="needs a label file or folders"):
        DataConfig(source="digits", target="multi-label")


@given(st.integers(2, 60), st.integers(2, 5), st.integers(0, 2**31), st.floats(0.05, 0.95), st.floats(0.05, 0.9))
def test_splits_of_labels(count: int, k: int, seed: int, fraction: float, density: float) -> None:
    labels = (np.random.default_rng(seed).random((count, k)) < density).astype(np.float32)
    rest, held_out = multi_label_split(labels, fraction=fraction, seed=seed)
    assert sorted([*rest, *held_out]) == list(range(count))
    assert len(rest)
    total, kept = labels.sum(0), labels[rest].sum(0)
    assert (kept[total > 0] >= 1).all()
    again = multi_label_split(labels, fraction=fraction, seed=seed)
    assert np.array_equal(again[1], held_out)


def test_a_split_has_the_same_fraction_of_every_label() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((2000, 8)) < np.linspace(0.02, 0.6, 8)).astype(np.float32)
    held_out = multi_label_split(labels, fraction=0.2, seed=1)[1]
    assert len(held_out) == pytest.approx(400, abs=25)
    assert labels[held_out].sum(0) / labels.sum(0) == pytest.approx(np.full(8, 0.2), abs=0.03)


def test_groups_stay_together(tmp_path: Path) -> None:
    rows = [f"{'a|b' if number % 3 else 'b'},p{number // 4}" for number in range(40)]
    file = table(tmp_path, "image,label,patient", *rows)
    data = open_data(DataConfig(source="csv", root=file, target="multi-label", group_column="patient"))
    patients = {
        split: {int(Path(source.name(i)).stem) // 4 for i in range(len(source))} for split, source in data.items()
    }
    assert not patients["train"] & patients["test"]


def test_numbers_are_split_by_size(tmp_path: Path) -> None:
    numbers = np.arange(100.0, dtype=np.float32)[:, None]
    source = opened(table(tmp_path, "image,age", *(str(number[0]) for number in numbers)), target="regression")["train"]
    rest, held_out = split_targets(source, None, fraction=0.2, seed=0)
    assert len(held_out) == 20
    assert np.histogram(numbers[held_out], bins=10, range=(0, 100))[0].tolist() == [2] * 10
    assert label_counts(Subset(source=source, indices=rest)).tolist() == [80]
