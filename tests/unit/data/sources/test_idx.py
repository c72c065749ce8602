"""IDX files: read exactly, and every malformed one named in one sentence."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitral.data.config import DataConfig
from vitral.data.sources.idx import read_images, read_labels, read_split
from vitral.data.sources.source import read_from
from vitral.datasets.opening import open_data


def idx(values: np.ndarray, *, kind: int = 0x08) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, kind, values.ndim, *values.shape) + values.tobytes()


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 4), np.uint8)


def labels(count: int, classes: int = 3) -> np.ndarray:
    return (np.arange(count) % classes).astype(np.uint8)


def write_data(root: Path, *, dot: bool = False, zipped: bool = False, train: int = 12, test: int = 6) -> Path:
    root.mkdir(exist_ok=True)
    for prefix, count in (("train", train), ("t10k", test)):
        for what, values, axes in (("images", images(count), 3), ("labels", labels(count), 1)):
            if count:
                name = f"{prefix}-{what}{'.' if dot else '-'}idx{axes}-ubyte{'.gz' if zipped else ''}"
                content = idx(values)
                (root / name).write_bytes(gzip.compress(content, mtime=0) if zipped else content)
    return root


def config(root: Path, **values) -> DataConfig:
    return DataConfig(source="idx", root=root, **values)


@pytest.mark.parametrize("dot", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_both_splits_come_back(tmp_path, dot, zipped):
    data = open_data(config(write_data(tmp_path, dot=dot, zipped=zipped)))
    assert sorted(data) == ["test", "train"]
    for split, count in (("train", 12), ("test", 6)):
        source = data[split]
        assert len(source) == count
        assert source.classes == ("0", "1", "2")
        assert source.labels.dtype == np.int64
        assert source.labels.tolist() == labels(count).tolist()
        for index in range(count):
            assert np.asarray(read_from(source, index, channels=1)).tolist() == images(count)[index].tolist()
    image = read_from(data["train"], 3, channels=3)
    assert image.mode == "RGB"
    assert np.asarray(image)[..., 2].tolist() == images(12)[3].tolist()
    file = tmp_path / f"t10k-images{'.' if dot else '-'}idx3-ubyte{'.gz' if zipped else ''}"
    assert data["test"].name(2) == f"{file}[2]"


def test_gzip_is_known_by_its_content(tmp_path):
    write_data(tmp_path)
    file = tmp_path / "train-images-idx3-ubyte"
    file.rename(tmp_path / "train-images-idx3-ubyte.gz")
    assert len(open_data(config(tmp_path))["train"]) == 12


def test_without_test_files_a_share_is_held_out(tmp_path):
    data = open_data(config(write_data(tmp_path, test=0), test_fraction=0.25))
    assert (len(data["train"]), len(data["test"])) == (9, 3)
    assert sorted(data["test"].labels) == [0, 1, 2]


def test_class_names(tmp_path):
    assert open_data(config(write_data(tmp_path), class_names=("a", "b", "c", "d")))["test"].classes[3] == "d"
    with pytest.raises(ValueError, match=r"train-labels-idx1-ubyte has the label 2, but there are only 2 classes"):
        open_data(config(tmp_path, class_names=("a", "b")))


def test_a_test_label_that_training_never_saw(tmp_path):
    write_data(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.uint8([0, 1, 2, 0, 1, 7])))
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte has the label 7, but there are only 3 classes"):
        open_data(config(tmp_path))


def test_only_one_class(tmp_path):
    write_data(tmp_path, test=0)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(12, np.uint8)))
    with pytest.raises(ValueError, match="has only one class, '0'"):
        open_data(config(tmp_path))


@pytest.mark.parametrize("missing", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_half_a_split(tmp_path, missing):
    write_data(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(ValueError, match=rf"has .* but no {missing} \(or {missing}.gz\): put it there"):
        open_data(config(tmp_path))


def test_no_files(tmp_path):
    with pytest.raises(ValueError, match=r"has no train-images-idx3-ubyte \(or \.gz\): give .* as --data\.root"):
        open_data(config(tmp_path))
    assert read_split(tmp_path, "train") is None


def test_counts_that_do_not_match(tmp_path):
    write_data(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(labels(11)))
    with pytest.raises(ValueError, match=r"holds 12 images but .* 11 labels: they do not match"):
        open_data(config(tmp_path))


WHOLE = idx(images(5))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is not an IDX file"),
        (b"\0\0\x08", "is not an IDX file"),
        (b"\0\1\x08\3", "is not an IDX file"),
        (b"\x89PNG\r\n\x1a\n", "is not an IDX file"),
        (b"\0\0\x0a\3" + WHOLE[4:], "is not an IDX file"),
        (idx(images(5).astype(np.float32), kind=0x0D), "holds 32-bit floats, but only unsigned bytes are read"),
        (idx(labels(5)), "has 1 axes where images have 3"),
        (WHOLE[:9], "ends within its header"),
        (WHOLE[:-1], "announces 60 bytes of images but holds 59"),
        (WHOLE + b"\0", "announces 60 bytes of images but holds 61"),
        (b"\0\0\x08\3" + b"\xff" * 12, "announces 79228162458924105385300197375 bytes of images but holds 0"),
        (idx(images(0)), "holds no images"),
        (gzip.compress(WHOLE, mtime=0)[:-9], "is a damaged gzip file"),
        (gzip.compress(WHOLE, mtime=0)[:12] + b"????????" + gzip.compress(WHOLE)[20:], "is a damaged gzip file"),
        (gzip.compress(WHOLE, mtime=0)[:-8] + bytes(8), "is a damaged gzip file"),
        (b"\x1f\x8b", "is a damaged gzip file"),
    ],
)
def test_malformed_files(tmp_path, content, sentence):
    file = tmp_path / "train-images-idx3-ubyte"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=sentence) as caught:
        read_images(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_a_path_that_cannot_be_read(tmp_path):
    with pytest.raises(ValueError, match="gone cannot be read: No such file or directory"):
        read_labels(tmp_path / "gone")


def outcome(file: Path) -> np.ndarray | str:
    """The labels, or the sentence that says why there are none."""
    try:
        return read_labels(file)
    except ValueError as error:
        return str(error)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("idx") / "labels"


@given(st.sampled_from([idx(labels(40)), gzip.compress(idx(labels(40)), mtime=0)]), st.data())
def test_damaged_bytes_give_labels_or_one_sentence(scratch, whole, data):
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    scratch.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    result = outcome(scratch)
    if isinstance(result, str):
        assert result.startswith(str(scratch))
        assert "\n" not in result
    else:
        assert result.shape == (40,)


def test_fashion_mnist(fashion_mnist):
    data = open_data(config(fashion_mnist))
    assert (len(data["train"]), len(data["test"])) == (60_000, 10_000)
    assert np.bincount(data["train"].labels).tolist() == [6000] * 10
    assert np.bincount(data["test"].labels).tolist() == [1000] * 10
    assert read_from(data["test"], 0, channels=1).size == (28, 28)
    assert data["train"].labels[:5].tolist() == [9, 0, 0, 3, 0]
    mean = np.mean([np.asarray(read_from(data["train"], index, channels=1)).mean() for index in range(500)])
    assert 65 < mean < 80  # 72.9 over all 60,000
