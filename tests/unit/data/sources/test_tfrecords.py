"""TFRecord files, written by the library `tfrecord`, which follows TensorFlow's format."""

import gzip
import json
from pathlib import Path

import pytest
import tfrecord

from unit.data.sources.test_tars import png
from vitral.data.config import DataConfig
from vitral.data.notes import note_once
from vitral.data.sources.source import Source, read_from
from vitral.datasets.infer import infer_source
from vitral.datasets.opening import open_data
from web import serve_folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VITRAL_CACHE", str(tmp_path / "cache"))
    note_once.cache_clear()
    return tmp_path / "cache"


def write_records(file: Path, examples: list[dict]) -> Path:
    """Values by feature; integers, floats or bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    writer = tfrecord.TFRecordWriter(str(file))
    kinds = {int: "int", float: "float", bytes: "byte"}
    for example in examples:
        first = {name: value[0] if isinstance(value, list) else value for name, value in example.items()}
        writer.write({name: (value, kinds[type(first[name])]) for name, value in example.items()})
    writer.close()
    return file


def digits(numbers: range, *, image: str = "image/encoded", label: str = "image/class/label") -> list[dict]:
    """Image `i` is of shade `i` and class `i % 2`; the name holds what may be mistaken for a feature."""
    return [{label: number % 2, image: png(number), "image/filename": f"{label}.png".encode()} for number in numbers]


def write_files(folder: Path, prefix: str = "train", *, files: int = 3, each: int = 4, **names: str) -> Path:
    for number in range(files):
        write_records(
            folder / f"{prefix}-{number:05d}-of-{files:05d}",
            digits(range(number * each, (number + 1) * each), **names),
        )
    return folder


def write_tfds(folder: Path, *, label: str = "label", **changes: object) -> Path:
    """A version's folder as TensorFlow Datasets prepares it."""
    for split, count in (("train", 2), ("test", 1)):
        write_files(folder, f"tiny-{split}.tfrecord", files=count, image="image", label=label)
    python = "tensorflow_datasets.core.features"
    features = {
        "image": {"pythonClassName": f"{python}.image_feature.Image", "image": {"dtype": "uint8"}},
        label: {"pythonClassName": f"{python}.class_label_feature.ClassLabel", "classLabel": {"numClasses": "2"}},
    }
    (folder / "features.json").write_text(json.dumps({"featuresDict": {"features": features}}))
    (folder / f"{label.replace('/', '.')}.labels.txt").write_text("cat\ndog\n")
    info = {
        "name": "tiny",
        "fileFormat": "tfrecord",
        "splits": [{"name": "train", "shardLengths": ["4", "4"]}, {"name": "test", "shardLengths": ["4"]}],
    }
    (folder / "dataset_info.json").write_text(json.dumps({**info, **changes}))
    return folder


def opened(root: Path, **values) -> dict[str, Source]:
    return open_data(DataConfig(source="tfrecord", root=root, **values))


def shades(source: Source) -> list[int]:
    return [read_from(source, index, channels=1).getpixel((1, 1)) for index in range(len(source))]


def refused(root: Path, sentence: str, **values) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        opened(root, **values)
    assert sentence in str(caught.value)


def test_a_folder(tmp_path: Path) -> None:
    write_files(write_files(tmp_path / "records"), "validation", files=1)
    data = opened(tmp_path / "records")
    assert list(data) == ["train", "val"]
    assert shades(data["train"]) == list(range(12))
    assert shades(data["val"]) == [0, 1, 2, 3]
    assert data["train"].labels.tolist() == [0, 1] * 6
    assert data["train"].stored(5) == png(5)
    assert data["train"].name(5) == f"{tmp_path}/records/train-00001-of-00003[1]"
    assert infer_source(str(tmp_path / "records")).source == "tfrecord"


def test_patterns_and_other_features(tmp_path: Path) -> None:
    write_files(tmp_path / "records", image="picture", label="kind")
    names = dict(image_column="picture", label_column="kind")
    data = opened(tmp_path / "records" / "train-{00000..00002}-of-00003", class_names=("cat", "dog"), **names)
    assert sorted(shades(data["train"]) + shades(data["test"])) == list(range(12))
    assert data["train"].classes == ("cat", "dog")
    refused(tmp_path / "records", "train-00000-of-00003[0] has no usual feature of the image, only image/filename, ")
    refused(tmp_path / "records", "has no feature 'kin', only", image_column="picture", label_column="kin")


def test_classes_as_words(tmp_path: Path) -> None:
    examples = [{"image": png(number), "label": word} for number, word in enumerate([b"ant", b"007"] * 3)]
    data = opened(write_records(tmp_path / "a.tfrecord", examples))
    assert data["train"].classes == ("007", "ant")


def test_tensorflow_datasets(tmp_path: Path) -> None:
    write_tfds(tmp_path / "tiny" / "1.0.0")
    for root in (tmp_path / "tiny", tmp_path / "tiny" / "1.0.0"):
        data = opened(root)
        assert {split: len(source) for split, source in data.items()} == {"train": 8, "test": 4}
        assert data["train"].classes == ("cat", "dog")
        assert shades(data["train"]) == list(range(8))
        assert infer_source(str(root)).source == "tfrecord"
    other = opened(tmp_path / "tiny", splits=("train=test", "test=train"))
    assert shades(other["test"]) == list(range(8))
    refused(tmp_path / "tiny", "has no split 'val', only train, test", splits=("train=train", "test=val"))
    write_tfds(tmp_path / "tiny" / "2.0.0")
    refused(tmp_path / "tiny", f"has 2 data sets: choose one, such as --data.root {tmp_path}/tiny/2.0.0")


def test_the_label_of_a_nested_feature(tmp_path: Path) -> None:
    assert opened(write_tfds(tmp_path / "tiny", label="objects/label"))["train"].classes == ("cat", "dog")


def test_descriptions_that_do_not_fit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_tfds(tmp_path / "tiny", fileFormat="array_record")
    refused(folder, f"{folder} is stored as array_record, which Vitral does not read")
    splits = [{"name": "train", "shardLengths": ["4", "5"]}, {"name": "extra", "shardLengths": ["4"]}]
    write_tfds(folder, splits=splits)
    refused(folder, "tiny-train.tfrecord-00001-of-00002 has 4 records, but dataset_info.json says 5")
    assert "the splits extra are left out" in caplog.text
    (folder / "tiny-train.tfrecord-00001-of-00002").unlink()
    refused(folder, "tiny-train.tfrecord-00001-of-00002 does not exist: download it")
    (folder / "dataset_info.json").write_text("{}")
    refused(folder, f"{folder}/dataset_info.json is damaged")


def test_the_same_over_http(tmp_path: Path) -> None:
    write_tfds(tmp_path / "tiny")
    local = opened(tmp_path / "tiny")
    with serve_folder(tmp_path) as web:
        data = opened(Path(f"{web.url}/tiny"))
        for split in ("train", "test"):
            assert data[split].classes == local[split].classes
            assert shades(data[split]) == shades(local[split])
        single = opened(Path(f"{web.url}/tiny/tiny-train.tfrecord-{{00000,00001}}-of-00002"))
        assert sum(map(len, single.values())) == 8


def test_every_damaged_byte_is_noticed(tmp_path: Path) -> None:
    file = write_records(tmp_path / "a.tfrecord", digits(range(3)))
    whole = file.read_bytes()
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        refused(file, f"{file} is ")
        refused(file, "download it again")


@pytest.mark.parametrize("lost", [1, 4, 5, 20, 100, 300])
def test_a_truncated_file_is_named(tmp_path: Path, lost: int) -> None:
    file = write_records(tmp_path / "a.tfrecord", digits(range(3)))
    file.write_bytes(file.read_bytes()[:-lost])
    refused(file, f"{file} is truncated in record ")


def test_other_files(tmp_path: Path) -> None:
    file = write_records(tmp_path / "a.tfrecord", digits(range(3)))
    file.write_bytes(gzip.compress(file.read_bytes()))
    refused(file, f"{file} is compressed: unpack it")
    file.write_bytes(b"<html>" * 10)
    refused(file, f"{file} is not a TFRecord file")
    write_records(file, [{"image": png(1), "label": [1, 2]}])
    refused(file, f"{file}[0] has 2 values as 'label': each record must have one label")
    write_records(file, [{"image": png(1), "label": 0.5}])
    refused(file, "has numbers with a fraction as 'label'")
    write_records(file, [{"image": [1, 2, 3], "label": 1}])
    refused(file, "has 3 values as 'image'")
    write_records(file, [{"image": png(1), "label": 1}, {"image": png(1)}])
    refused(file, f"{file}[1] has no usual feature of the label, only image")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "has no .tfrecord files")
    with pytest.raises(ValueError, match=r"--data\.source tfrecord needs --data\.root"):
        opened(None)
