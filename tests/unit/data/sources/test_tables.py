"""Tables of Hugging Face's datasets."""

import pickle
import sys
import time
from io import BytesIO
from pathlib import Path

import datasets
import numpy as np
import pyarrow
import pytest
from PIL import Image

from vitral.data.config import DataConfig
from vitral.data.images.decode import UnreadableImage
from vitral.data.sources.source import Source, read_from
from vitral.data.sources.tables import TableSource
from vitral.datasets.opening import open_data

CLASSES = ["cat", "dog", "owl"]
FEATURES = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=CLASSES)})


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are converted into a folder of the test's own."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def png(value: int) -> bytes:
    stream = BytesIO()
    Image.new("L", (3, 2), value).save(stream, "PNG")
    return stream.getvalue()


def table(count: int = 6, *, start: int = 0, features: datasets.Features | None = FEATURES) -> datasets.Dataset:
    """Image `i` is one shade of grey, `start + i`, and of class `i % 3`."""
    images = [{"bytes": png(start + index), "path": None} for index in range(count)]
    labels = [index % 3 for index in range(count)]
    return datasets.Dataset.from_dict({"image": images, "label": labels}, features=features)


def shades(source: Source) -> list[int]:
    return [read_from(source, index, channels=1).getpixel((1, 1)) for index in range(len(source))]


def opened(root: Path, **values) -> dict[str, Source]:
    return open_data(DataConfig(source="hub", root=root, **values))


def test_a_saved_folder_with_splits(tmp_path: Path) -> None:
    both = datasets.DatasetDict({"validation": table(3, start=50), "train": table()})
    both.save_to_disk(tmp_path / "saved")
    data = opened(tmp_path / "saved")
    assert list(data) == ["train", "val"]
    assert data["train"].classes == tuple(CLASSES)
    assert data["train"].labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert data["train"].labels.dtype == np.int64
    assert shades(data["train"]) == [0, 1, 2, 3, 4, 5]
    assert shades(data["val"]) == [50, 51, 52]
    assert data["val"].name(2) == f"{tmp_path}/saved/validation[2]"


def test_nothing_is_decoded(tmp_path: Path) -> None:
    table().save_to_disk(tmp_path / "saved")
    source = opened(tmp_path / "saved", test_fraction=0.4)["train"].source
    assert isinstance(source, TableSource)
    assert source.stored(4) == png(4)


def test_rows_keep_their_order_and_labels_when_picked_out(tmp_path: Path) -> None:
    picked = table(12).select([11, 3, 7, 0, 1, 4])
    picked.save_to_disk(tmp_path / "saved")
    source = opened(tmp_path / "saved", splits=("train=train", "test=train"))["train"]
    assert shades(source) == [11, 3, 7, 0, 1, 4]
    assert source.labels.tolist() == [2, 0, 1, 0, 1, 1]


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_files(tmp_path: Path, form: str) -> None:
    (tmp_path / "shards").mkdir()
    if form == "parquet":
        for part in ("train", "test"):
            table().to_parquet(tmp_path / "shards" / f"{part}-00000-of-00001.parquet")
        assert list(opened(tmp_path / "shards")) == ["train", "test"]
        file = tmp_path / "shards" / "train-00000-of-00001.parquet"
    else:
        table().save_to_disk(tmp_path / "saved")
        file = tmp_path / "saved" / "data-00000-of-00001.arrow"
    source = opened(file)["train"].source
    assert shades(source) == [0, 1, 2, 3, 4, 5]
    assert source.classes == tuple(CLASSES)


def test_a_folder_of_images(tmp_path: Path, photographs: Path) -> None:
    data, files = opened(photographs), open_data(DataConfig(source="folder", root=photographs))
    assert data["train"].classes == files["train"].classes
    whole, by_folder = data["train"].source, files["train"].source
    assert len(whole) == len(by_folder) == 72
    stored = {Path(whole.stored(index)).resolve() for index in range(len(whole))}
    assert stored == {(photographs / file).resolve() for file in by_folder.files}


@pytest.mark.parametrize(
    ("targets", "classes"), [(["b", "a", "b", "c"], ("a", "b", "c")), ([1, 0, 1, 2], ("0", "1", "2"))]
)
def test_classes_as_words_and_as_numbers(tmp_path: Path, targets: list, classes: tuple[str, ...]) -> None:
    images = [{"bytes": png(value), "path": None} for value in range(4)]
    plain = datasets.Dataset(pyarrow.table({"picture": images, "target": targets}))
    datasets.DatasetDict({"all": plain, "some": plain.select([3, 1])}).save_to_disk(tmp_path / "saved")
    data = opened(tmp_path / "saved", splits=("train=all", "test=some"))
    assert data["train"].classes == classes
    assert data["train"].labels.tolist() == [1, 0, 1, 2]
    assert data["test"].labels.tolist() == [2, 0]
    assert shades(data["train"]) == [0, 1, 2, 3]


def test_a_test_split_of_secret_labels_is_passed_over(tmp_path: Path) -> None:
    secret = table(3).remove_columns("label").add_column("label", [-1, -1, -1], feature=FEATURES["label"])
    both = {"train": table(), "validation": table(3), "test": secret}
    datasets.DatasetDict(both).save_to_disk(tmp_path / "saved")
    assert list(opened(tmp_path / "saved")) == ["train", "val"]
    with pytest.raises(ValueError, match=r"has the label -1 in its test images, but its classes are 0 to 2: name"):
        opened(tmp_path / "saved", splits=("train=train", "test=test"))


def test_a_source_travels_to_other_processes(tmp_path: Path) -> None:
    table().save_to_disk(tmp_path / "saved")
    source = opened(tmp_path / "saved")["test"]
    copy = pickle.loads(pickle.dumps(source))
    assert shades(copy) == shades(source)
    assert copy.name(0) == source.name(0)


def test_ten_million_rows_open_without_being_read(tmp_path: Path) -> None:
    rows, batch = 10_000_000, 1_000_000
    schema = FEATURES.arrow_schema
    columns = [pyarrow.nulls(batch, schema.types[0]), pyarrow.array(np.arange(batch) % 2)]
    content = pyarrow.table(columns, schema=schema)
    with pyarrow.OSFile(f"{tmp_path}/big.arrow", "wb") as sink, pyarrow.ipc.new_stream(sink, schema) as writer:
        for _ in range(rows // batch):
            writer.write_table(content)
    both = ("train=train", "test=train")
    opened(tmp_path / "big.arrow", splits=both)  # imports are not what is measured
    start = time.process_time()
    source = opened(tmp_path / "big.arrow", splits=both)["train"]
    assert time.process_time() - start < 1, "of the processor"
    assert (len(source), source.labels[-1]) == (rows, 1)
    with pytest.raises(UnreadableImage, match=r"train\[9999999\] cannot be read as an image: its cell is empty"):
        source.stored(rows - 1)


def refused(root: Path, sentence: str, **values) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        opened(root, **values)
    assert sentence in str(caught.value)


def test_columns_that_could_be_several(tmp_path: Path) -> None:
    both = table().add_column("coarse", [0, 0, 0, 1, 1, 1], feature=datasets.ClassLabel(names=["pet", "bird"]))
    both.save_to_disk(tmp_path / "saved")
    refused(
        tmp_path / "saved",
        "has several label columns, label, coarse: choose one of label, coarse with --data.label-column",
    )
    assert opened(tmp_path / "saved", label_column="coarse")["train"].classes == ("pet", "bird")
    refused(tmp_path / "saved", "has no column 'breed', only image, label, coarse: change", label_column="breed")


def test_splits_that_could_be_anything(tmp_path: Path) -> None:
    datasets.DatasetDict({"north": table(), "south": table()}).save_to_disk(tmp_path / "saved")
    refused(tmp_path / "saved", "has the splits north, south: assign them, such as --data.splits train=north")
    refused(tmp_path / "saved", "has no split 'east', only north, south: change", splits=("train=east",))
    with pytest.raises(ValueError, match=r"--data\.splits takes train=NAME"):
        DataConfig(source="hub", splits=("north",))
    assert list(opened(tmp_path / "saved", splits=("test=south", "train=north"))) == ["train", "test"]


def test_what_is_no_table(tmp_path: Path) -> None:
    table().remove_columns("image").save_to_disk(tmp_path / "words")
    refused(tmp_path / "words", "has no obvious image column: choose one of label with --data.image-column")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "empty cannot be opened as tables of images: ")
    (tmp_path / "notes.txt").write_text("notes")
    refused(tmp_path / "notes.txt", "notes.txt is not a .parquet or .arrow file")
    refused(Path("nobody/nothing"), "nobody/nothing is neither a local path nor available on the Hub (")
    with pytest.raises(ValueError, match=r"--data\.source hub needs --data\.root"):
        open_data(DataConfig(source="hub"))


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_a_damaged_file_is_named(tmp_path: Path, form: str) -> None:
    (tmp_path / "saved").mkdir()
    if form == "parquet":
        file = tmp_path / "saved" / "train.parquet"
        table().to_parquet(file)
    else:
        table().save_to_disk(tmp_path / "saved")
        file = tmp_path / "saved" / "data-00000-of-00001.arrow"
    file.write_bytes(file.read_bytes()[:100])
    refused(tmp_path / "saved", f"{file} is damaged or truncated")


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    refused(Path("some/where"), "reading tables of images needs the package datasets: pip install 'vitral[data]'")
