"""Label files: every text survives, columns and images are found, and every wrong file is refused in one sentence."""

import csv
import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vitral.data.config import DataConfig
from vitral.data.sources.source import Source
from vitral.datasets.opening import open_data, open_stored

NAMES = ("None", "NA", "nan", "null", "1e5", "007", "7", "True", "", " cat", "été")


def photos(folder: Path, count: int = 4) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("L", (2, 2), number).save(folder / f"{number}.png")
    return [f"{number}.png" for number in range(count)]


def opened(root: Path, **options: Any) -> dict[str, Source]:
    return open_stored(DataConfig(source="csv", root=root, **options))


def pairs(source: Source) -> list[tuple[str, str]]:
    """Name of each image and of its class."""
    return [(Path(source.name(index)).name, source.classes[label]) for index, label in enumerate(source.labels)]


def write_rows(file: Path, header: list[str], rows: list[list[str]]) -> Path:
    """A table in the format of the file's ending; JSON objects where it is .jsonl."""
    stream = StringIO()
    if file.suffix == ".jsonl":
        stream.writelines(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in rows)
    else:
        csv.writer(stream, delimiter="\t" if file.suffix == ".tsv" else ",").writerows([header, *rows])
    file.write_text(stream.getvalue(), newline="")
    return file


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
@given(labels=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=4, max_size=4))
def test_any_text_is_a_class(tmp_path_factory: pytest.TempPathFactory, suffix: str, labels: list[str]) -> None:
    if not all(label.strip() for label in labels):
        return  # an empty class is refused
    folder = tmp_path_factory.mktemp("labels")
    names = photos(folder)
    rows = [[name, label] for name, label in zip(names, labels, strict=True)]
    file = write_rows(folder / f"labels{suffix}", ["file_name", "label"], rows)
    assert pairs(opened(file)["train"]) == list(zip(names, labels, strict=True))


@pytest.mark.parametrize("name", [name for name in NAMES if name])
def test_words_that_other_readers_take_for_values_are_classes(tmp_path: Path, name: str) -> None:
    names = photos(tmp_path)
    rows = [[file, name if number % 2 else "other"] for number, file in enumerate(names)]
    write_rows(tmp_path / "metadata.csv", ["file_name", "label"], rows)
    for source in ("csv", "folder", "hub"):
        root = tmp_path / "metadata.csv" if source == "csv" else tmp_path
        assert set(open_stored(DataConfig(source=source, root=root))["train"].classes) == {name, "other"}


def test_a_number_in_json_stays_as_written(tmp_path: Path) -> None:
    photos(tmp_path)
    (tmp_path / "labels.jsonl").write_text('{"path": "0.png", "class": 1e5}\n\n{"path": "1.png", "class": 007}\n')
    with pytest.raises(ValueError, match="line 3 is not JSON"):
        opened(tmp_path / "labels.jsonl")
    (tmp_path / "labels.jsonl").write_text('{"path": "0.png", "class": 1e5}\n\n{"path": "1.png", "class": 70}\n')
    assert opened(tmp_path / "labels.jsonl")["train"].classes == ("1e5", "70")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("header", [("image", "label"), ("filename", "species"), ("label", "id"), ("x", "y")])
def test_columns_are_found_by_name_and_by_content(tmp_path: Path, delimiter: str, header: tuple[str, ...]) -> None:
    names = photos(tmp_path / "images")
    labels = ("label", "species", "y")
    rows = [["ab"[number % 2] if column in labels else name for column in header] for number, name in enumerate(names)]
    lines = [delimiter.join(row) for row in [header, *rows]]
    (tmp_path / "labels.csv").write_text("\ufeff" + "\r\n".join(lines) + "\r\n")
    data = opened(tmp_path / "labels.csv")
    assert pairs(data["train"]) == [(name, "ab"[number % 2]) for number, name in enumerate(names)]


def test_splits_in_a_column(tmp_path: Path) -> None:
    names = photos(tmp_path, 6)
    rows = [[name, "ab"[number % 2], ("train", "Validation", "TEST")[number // 2]] for number, name in enumerate(names)]
    file = write_rows(tmp_path / "labels.csv", ["image", "label", "split"], rows)
    data = opened(file)
    assert list(data) == ["train", "val", "test"]
    assert [pairs(source) for source in data.values()] == [
        [(names[first], "a"), (names[first + 1], "b")] for first in (0, 2, 4)
    ]
    own = [[name, label, {"train": "fit", "Validation": "x", "TEST": "check"}[split]] for name, label, split in rows]
    file = write_rows(tmp_path / "own.csv", ["image", "label", "fold"], own)
    data = opened(file, split_column="fold", splits=("train=fit", "val=x", "test=check"))
    assert {split: len(source) for split, source in data.items()} == {"train": 2, "val": 2, "test": 2}


def test_metadata_of_each_split(tmp_path: Path) -> None:
    for split, count in (("train", 4), ("test", 2)):
        names = photos(tmp_path / split, count)
        rows = [[name, "ab"[number % 2]] for number, name in enumerate(names)]
        write_rows(tmp_path / split / "metadata.csv", ["file_name", "label"], rows)
    data = open_stored(DataConfig(source="hub", root=tmp_path))
    assert {split: len(source) for split, source in data.items()} == {"train": 4, "test": 2}
    assert all(Path(data["test"].name(index)).is_file() for index in range(2))


def test_images_named_without_their_ending(tmp_path: Path) -> None:
    photos(tmp_path / "train")
    rows = [[str(number), "ab"[number % 2]] for number in range(4)]
    file = write_rows(tmp_path / "labels.csv", ["id", "breed"], rows)
    data = opened(file, images=tmp_path / "train")
    assert pairs(data["train"]) == [(f"{number}.png", "ab"[number % 2]) for number in range(4)]


def test_a_file_without_a_header(tmp_path: Path) -> None:
    names = photos(tmp_path)
    (tmp_path / "labels.csv").write_text("".join(f"{name},{'ab'[number % 2]}\n" for number, name in enumerate(names)))
    assert len(opened(tmp_path / "labels.csv")["train"]) == 4


def test_numbers_are_sorted_by_value(tmp_path: Path) -> None:
    names = photos(tmp_path)
    file = write_rows(
        tmp_path / "l.csv",
        ["image", "label"],
        [[name, label] for name, label in zip(names, ("10", "9", "10", "2"), strict=True)],
    )
    assert opened(file)["train"].classes == ("2", "9", "10")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("image,label\n", "has a header but no rows"),
        ("image,label\n0.png\n", "has 1 cells in row 2, not 2 as its header"),
        ("image,label\n0.png,a\n1.png,\n", "has no class in row 3"),
        ("image,image\n0.png,a\n", "has two columns with the same name"),
        ("image,a,b\n0.png,1,0\n", "has no obvious column of classes, only image, a, b"),
        ("image,label\nlost.png,a\n", "lost.png does not exist: give the folder of the images as --data.images"),
        ("image,label,split\n0.png,a,train\n1.png,b,sometimes\n", "has 'sometimes' in its column split"),
        ("image,label,split\n0.png,a,test\n", "has no training images in its column split"),
        ("image,label,split\n0.png,a,train\n1.png,b,test\n", "has the class 'b' in its test images only"),
        ('image,label\n0.png,"a\n', "is no table"),
    ],
)
def test_wrong_files_are_refused_in_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    photos(tmp_path)
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        opened(tmp_path / "labels.csv")
    assert sentence in str(caught.value)


@pytest.mark.parametrize("option", ["image_column", "label_column", "split_column"])
def test_a_column_that_is_not_there(tmp_path: Path, option: str) -> None:
    photos(tmp_path)
    file = write_rows(tmp_path / "l.csv", ["image", "label"], [["0.png", "a"]])
    with pytest.raises(ValueError, match="has no column 'lost', only image, label: change"):
        opened(file, **{option: "lost"})


def test_a_folder_is_no_label_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"needs --data.root, a .csv, .tsv, .jsonl, .ndjson file"):
        opened(tmp_path)


def test_text_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_bytes("image,label\n0.png,été\n".encode("latin-1"))
    with pytest.raises(ValueError, match="is not UTF-8 text: save it as UTF-8"):
        opened(tmp_path / "l.csv")


def test_similar_classes_are_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = photos(tmp_path, 8)
    labels = ("Cat", "cat", "cat ", "dog", "\u00e9", "e\u0301", "Cat", "dog")
    file = write_rows(tmp_path / "l.csv", ["image", "label"], [list(row) for row in zip(names, labels, strict=True)])
    with pytest.raises(ValueError, match="has a single image"):
        open_data(DataConfig(source="csv", root=file))
    notes = [record.message for record in caplog.records if "differ only" in record.message]
    assert len(notes) == 2
    assert notes[0].startswith("the classes 'Cat' and 'cat' and 'cat ' differ only in case, spaces or Unicode form")
    assert notes[1].startswith(r"the classes 'e\u0301' and '\xe9' differ only")


def test_similar_classes_are_noted_without_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As `vitral data check` opens data."""
    rows = [[name, label] for name, label in zip(photos(tmp_path, 2), ("Dog", "dog"), strict=True)]
    open_stored(DataConfig(source="csv", root=write_rows(tmp_path / "l.csv", ["image", "label"], rows)))
    assert "the classes 'Dog' and 'dog' differ only" in caplog.text


def test_images_that_are_named_twice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = photos(tmp_path)
    rows = [[name, "ab"[number % 2]] for number, name in enumerate(names)]
    opened(write_rows(tmp_path / "twice.csv", ["image", "label"], [*rows, rows[0]]))
    assert any("names 1 images more than once" in record.message for record in caplog.records)
    with pytest.raises(ValueError, match=r"gives 0\.png the classes 'a' and 'b': keep one"):
        opened(write_rows(tmp_path / "both.csv", ["image", "label"], [*rows, ["0.png", "b"]]))


def test_paths_from_windows(tmp_path: Path) -> None:
    photos(tmp_path / "a")
    rows = [[f"a\\{number}.png", "ab"[number % 2]] for number in range(4)]
    file = write_rows(tmp_path / "l.csv", ["image", "label"], rows)
    assert Path(opened(file)["train"].name(3)) == tmp_path / "a" / "3.png"


@pytest.mark.parametrize(
    ("header", "cells", "noted"),
    [
        (["image", "label", "is_valid"], ["True"], "--data.split-column is_valid would split by it"),
        (["image", "label", "fold"], ["3"], "--data.split-column fold would split by it"),
        (["image", "label", "Patient_ID"], ["p7"], "--data.group-column Patient_ID would keep images"),
    ],
)
def test_columns_that_are_not_used_are_noted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, header: list[str], cells: list[str], noted: str
) -> None:
    rows = [[name, "ab"[number % 2], *cells] for number, name in enumerate(photos(tmp_path))]
    assert opened(write_rows(tmp_path / "l.csv", header, rows))["train"].classes == ("a", "b")
    assert noted in caplog.text


@pytest.mark.parametrize(
    ("column", "values", "counts"),
    [
        ("is_valid", ("False", "True"), {"train": 4, "val": 4}),
        ("is_valid", ("0", "1"), {"train": 4, "val": 4}),
        ("is_test", ("false", "true"), {"train": 4, "test": 4}),
        ("is_train", ("TRUE", "FALSE"), {"train": 4, "test": 4}),
    ],
)
def test_flags_of_a_split(tmp_path: Path, column: str, values: tuple[str, str], counts: dict[str, int]) -> None:
    rows = [[name, "ab"[number % 2], values[number // 4]] for number, name in enumerate(photos(tmp_path, 8))]
    file = write_rows(tmp_path / "l.csv", ["image", "label", column], rows)
    assert {split: len(source) for split, source in opened(file, split_column=column).items()} == counts


def test_folds_need_their_splits(tmp_path: Path) -> None:
    rows = [[name, "ab"[number % 2], str(number // 2)] for number, name in enumerate(photos(tmp_path, 6))]
    file = write_rows(tmp_path / "l.csv", ["image", "label", "fold"], rows)
    with pytest.raises(ValueError, match=r"'0' in its column fold.*--data\.splits train=1 train=2 test=0$"):
        opened(file, split_column="fold")
    with pytest.raises(ValueError, match=r"add --data\.split-column"):
        opened(file, splits=("train=1", "test=0"))
    data = opened(file, split_column="fold", splits=("train=1", "train=2", "test=0"))
    assert {split: len(source) for split, source in data.items()} == {"train": 4, "test": 2}


def test_a_class_in_each_column(tmp_path: Path) -> None:
    names = photos(tmp_path)
    rows = [[name, *("1.0", "0.0")[:: 1 if number % 2 else -1]] for number, name in enumerate(names)]
    data = opened(write_rows(tmp_path / "l.csv", ["image", "MEL", "NV"], rows))
    assert pairs(data["train"]) == [(name, ("NV", "MEL")[number % 2]) for number, name in enumerate(names)]
    with pytest.raises(ValueError, match="has the classes 'MEL' and 'NV' in row 2: Vitral learns one class"):
        opened(write_rows(tmp_path / "two.csv", ["image", "MEL", "NV"], [[names[0], "1", "1"], *rows_of_ones(names)]))


def rows_of_ones(names: list[str]) -> list[list[str]]:
    return [[name, *("10", "01")[number % 2]] for number, name in enumerate(names) if number]


@pytest.mark.parametrize("label", [["a", "b"], {"a": 1}, [["a"]]])
def test_lists_and_objects_are_no_classes(tmp_path: Path, label: Any) -> None:
    rows = [{"image": name, "label": label} for name in photos(tmp_path)]
    (tmp_path / "l.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ValueError, match="as the class of row 1, a list or an object: Vitral learns one class"):
        opened(tmp_path / "l.jsonl")
    file = write_rows(tmp_path / "l.csv", ["image", "label"], [["0.png", "['a', 'b']"]])
    with pytest.raises(ValueError, match=r"has the list \['a', 'b'\] as the class of row 2"):
        opened(file)


@pytest.mark.parametrize(
    ("labels", "noted"),
    [
        ((" a", "b", " a", "b"), "a class has spaces around the name, such as ' a'; they are kept"),
        (("a", "b", "a|b", "b"), "'a|b' is read as one class, although its parts are classes too"),
        (("0.1", "0.25", "0.5", "0.75"), "each of 4 numbers, such as 0.1, is a class of its own"),
    ],
)
def test_classes_that_may_be_meant_otherwise_are_noted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, labels: tuple[str, ...], noted: str
) -> None:
    rows = [[name, label] for name, label in zip(photos(tmp_path), labels, strict=True)]
    assert [label for _, label in pairs(opened(write_rows(tmp_path / "l.csv", ["image", "label"], rows))["train"])] == [
        *labels
    ]
    assert noted in caplog.text


def test_a_class_that_differs_in_case_between_splits(tmp_path: Path) -> None:
    rows = [
        [name, label, split]
        for name, label, split in zip(photos(tmp_path), ("Cat", "dog", "cat", "dog"), SIDES, strict=True)
    ]
    with pytest.raises(ValueError, match="has the class 'cat' in its val images only: rename it to 'Cat'"):
        opened(write_rows(tmp_path / "l.csv", ["image", "label", "split"], rows))


SIDES = ("train", "train", "val", "val")


@pytest.mark.parametrize("source", ["csv", "folder", "hub"])
def test_splits_from_the_images_folders(tmp_path: Path, caplog: pytest.LogCaptureFixture, source: str) -> None:
    names = [f"{split}/{name}" for split in ("train", "test") for name in photos(tmp_path / split)]
    rows = [[name, "ab"[number % 2]] for number, name in enumerate(names)]
    write_rows(tmp_path / "metadata.csv", ["file_name", "label"], rows)
    data = open_stored(DataConfig(source=source, root=tmp_path))
    assert {split: len(part) for split, part in data.items()} == {"train": 4, "test": 4}
    assert "splits from the images' folders" in caplog.text


def test_files_of_each_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As competitions and papers publish lists."""
    names = photos(tmp_path)
    for name in ("train.txt", "val.txt", "fit.txt"):
        (tmp_path / name).write_text("".join(f"{file} {'ab'[n % 2]}\n" for n, file in enumerate(names)))
    (tmp_path / "test.csv").write_text("image\n0.png\n")
    data = opened(tmp_path)
    assert {split: len(part) for split, part in data.items()} == {"train": 4, "val": 4}
    assert "test.csv is left out, as it has no column 'label'" in caplog.text
    assert "4 images, such as 0.png, are both in train and in val" in caplog.text
    assert list(opened(tmp_path, splits=("train=fit.txt", "test=val.txt"))) == ["train", "test"]
    with pytest.raises(ValueError, match=r"lost\.txt is not a file: name label files"):
        opened(tmp_path, splits=("train=lost.txt",))
    (tmp_path / "val.csv").write_text("image,label\n0.png,a\n")
    with pytest.raises(ValueError, match=r"has both val\.csv and val\.txt: choose one"):
        opened(tmp_path)


def test_several_images_in_a_row(tmp_path: Path) -> None:
    photos(tmp_path)
    (tmp_path / "metadata.jsonl").write_text('{"file_names": ["0.png", "1.png"], "label": "a"}\n')
    with pytest.raises(ValueError, match="names several images in row 1"):
        opened(tmp_path / "metadata.jsonl")


def test_an_only_column_holds_the_classes_whatever_its_name(tmp_path: Path) -> None:
    rows = [[name, "ab"[number % 2]] for number, name in enumerate(photos(tmp_path))]
    assert opened(write_rows(tmp_path / "l.csv", ["image", "group"], rows))["train"].classes == ("a", "b")


@pytest.mark.parametrize(
    ("source", "option"),
    [("folder", "images"), ("folder", "split_column"), ("folder", "label_column"), ("digits", "split_column")],
)
def test_options_of_label_files_for_other_data(tmp_path: Path, source: str, option: str) -> None:
    photos(tmp_path / "a")
    photos(tmp_path / "b")
    options: dict[str, Any] = {option: tmp_path if option == "images" else "x"}
    with pytest.raises(ValueError, match=rf"--data\.{option.replace('_', '-')} is for label files, and \S+ is none"):
        open_stored(DataConfig(source=source, root=None if source == "digits" else tmp_path, **options))


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ({"image": {"path": "{}"}, "annotation": {"label": "cat"}}, {}),
        ({"file": "{}", "meta": {"animal": {"Class": "cat"}}}, {}),
        ({"file": "{}", "label": {"id": 7, "name": "cat"}}, {"label_column": "label.name"}),
        # columns come before fields
        ({"source": {"label": "web"}, "image": "{}", "category": "cat", "meta": {"file_name": "original.png"}}, {}),
    ],
)
def test_fields_of_objects_are_columns(tmp_path: Path, form: dict[str, Any], options: dict[str, Any]) -> None:
    rows = [json.dumps(form).replace("{}", name) for name in photos(tmp_path)]
    for name, text in (("l.jsonl", "\n".join(rows)), ("l.json", f"[{','.join(rows)}]")):
        (tmp_path / name).write_text(text)
        assert set(pairs(opened(tmp_path / name, **options)["train"])) == {(f"{i}.png", "cat") for i in range(4)}
