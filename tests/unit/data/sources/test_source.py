"""Sources and the configuration that opens them."""

import os
import pickle
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from photographs import CLASSES, FORMS, add_unreadable_files, write_photographs
from vitral.config import from_dict, to_dict
from vitral.data.config import DataConfig
from vitral.data.images.decode import UnreadableImage, read_image
from vitral.data.sources.source import ArraySource, FileSource, Subset, read_from
from vitral.datasets.opening import open_data

DIGITS = DataConfig(source="digits")


def test_digits():
    data = open_data(DIGITS)
    train, test = data["train"], data["test"]
    assert list(data) == ["train", "test"]
    assert (len(train), len(test)) == (1438, 359)
    assert train.classes == tuple("0123456789")
    counts = np.bincount(load_digits().target)
    assert np.bincount(test.labels).tolist() == [round(0.2 * int(count)) for count in counts]


def test_digits_have_exactly_the_original_shades():
    original = load_digits()
    shades = [round(value * 255 / 16) for value in range(17)]
    for source in open_data(DIGITS).values():
        for index in range(len(source)):
            number = int(source.name(index).removeprefix("digits[").removesuffix("]"))
            expected = [[shades[int(value)] for value in row] for row in original.images[number]]
            assert np.asarray(read_from(source, index, channels=1)).tolist() == expected
            assert source.labels[index] == original.target[number]


def test_a_configuration_with_the_old_keys_is_read():
    """As runs before the keys were renamed have it in run.json."""
    old = {"source": "digits", "held_out": 0.3, "val_share": 0.1}
    config = from_dict(DataConfig, old, origin="run.json")
    assert config == DataConfig(source="digits", test_fraction=0.3, val_fraction=0.1)
    assert {"test_fraction": 0.3, "val_fraction": 0.1}.items() <= to_dict(config).items()
    assert not {"held_out", "val_share"} & to_dict(config).keys()


def test_what_is_held_out_depends_on_its_own_seed():
    names = [open_data(replace(DIGITS, split_seed=seed))["test"] for seed in (0, 0, 1)]
    held_out = [{source.name(index) for index in range(len(source))} for source in names]
    assert held_out[0] == held_out[1]
    assert held_out[0] != held_out[2]


def test_a_share_to_choose_a_model_by_leaves_the_test_images_alone():
    data, whole = open_data(replace(DIGITS, val_fraction=0.1)), open_data(DIGITS)
    names = {split: {part.name(index) for index in range(len(part))} for split, part in data.items()}
    assert [len(names[split]) for split in ("train", "val", "test")] == [1295, 143, 359]
    assert names["train"].isdisjoint(names["val"])
    assert names["train"] | names["val"] == {whole["train"].name(index) for index in range(1438)}
    assert names["test"] == {whole["test"].name(index) for index in range(359)}
    counts = np.bincount(whole["train"].labels)
    assert np.bincount(data["val"].labels).tolist() == [round(0.1 * int(count)) for count in counts]


def test_a_validation_split_of_its_own_is_not_replaced(tmp_path):
    for split in ("train", "val"):
        write_photographs(tmp_path / split, per_class=1)
    with pytest.raises(ValueError, match=r"already has a validation split: give --data\.val-fraction None"):
        open_data(DataConfig(source="folder", root=tmp_path, val_fraction=0.1))


def test_validation_images_may_be_trained_on_too(tmp_path):
    for split in ("train", "val", "test"):
        write_photographs(tmp_path / split, per_class=2)
    config = DataConfig(source="folder", root=tmp_path, train_on_val=True)
    apart, data = open_data(replace(config, train_on_val=False)), open_data(config)
    assert data.keys() == {"train", "test"}
    names = {split: all_names(source) for split, source in data.items()}
    assert names["train"] == [*all_names(apart["train"]), *all_names(apart["val"])]
    assert not set(names["test"]) & set(names["train"])
    (listed := tmp_path / "list.txt").write_text(f"{names['train'][-1].removeprefix(f'{tmp_path}/')}\n")
    assert all_names(open_data(replace(config, exclude=listed))["train"]) == names["train"][:-1]
    shutil.rmtree(tmp_path / "test")
    with pytest.raises(ValueError, match=r"has no test split of its own, which --data\.train-on-val needs"):
        open_data(config)


def all_names(source):
    return [source.name(index) for index in range(len(source))]


def test_there_must_be_validation_images_to_train_on_them():
    with pytest.raises(ValueError, match="digits has no validation split of its own"):
        open_data(replace(DIGITS, train_on_val=True))
    with pytest.raises(ValueError, match=r"holds out images that --data\.train-on-val"):
        replace(DIGITS, train_on_val=True, val_fraction=0.1)


def test_digits_with_names_of_their_own():
    classes = tuple("abcdefghij")
    assert open_data(replace(DIGITS, class_names=classes))["test"].classes == classes


@pytest.mark.parametrize(("shape", "channels"), [((2, 3, 4), 1), ((2, 3, 4, 1), 1), ((2, 3, 4, 3), 3)])
def test_arrays(shape, channels):
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    source = ArraySource(title="noise", images=images, labels=np.array([1, 0]), classes=("a", "b"))
    image = read_from(source, 1, channels=channels)
    assert image.size == (4, 3)
    assert np.asarray(image).tobytes() == images[1].tobytes()
    assert source.name(1) == "noise[1]"
    assert len(source) == 2


def test_subset():
    images = np.arange(5, dtype=np.uint8).reshape(5, 1, 1)
    whole = ArraySource(title="five", images=images, labels=np.array([0, 1, 0, 1, 0]), classes=("a", "b"))
    part = Subset(source=whole, indices=np.array([1, 4]))
    assert (len(part), part.classes) == (2, ("a", "b"))
    assert part.labels.tolist() == [1, 0]
    assert [part.name(index) for index in range(2)] == ["five[1]", "five[4]"]
    assert read_from(part, 1, channels=1).getpixel((0, 0)) == 4


def test_sources_travel_to_other_processes(tmp_path):
    write_photographs(tmp_path / "photos", per_class=2)
    for config in (DIGITS, DataConfig(source="folder", root=tmp_path / "photos")):
        source = open_data(config)["test"]
        copy = pickle.loads(pickle.dumps(source))
        assert copy.labels.tolist() == source.labels.tolist()
        assert copy.name(0) == source.name(0)
        assert read_from(copy, 0, channels=3).tobytes() == read_from(source, 0, channels=3).tobytes()


def test_photographs(tmp_path):
    root = write_photographs(tmp_path / "photos", seed=1)
    data = open_data(DataConfig(source="folder", root=root))
    assert data["train"].classes == CLASSES
    seen = Counter()
    for source in data.values():
        assert isinstance(source, Subset)
        assert isinstance(source.source, FileSource)
        for index in range(len(source)):
            image = read_from(source, index, channels=3)
            assert image.mode == "RGB"
            assert min(image.size) >= 72
            # a photograph, not a blank
            assert np.asarray(image).std() > 2
            seen[Path(source.name(index)).name[4:]] += 1
    assert seen == {form: len(CLASSES) for form in FORMS}


def test_the_corner_of_a_palette_photograph_reads_white(tmp_path):
    root = write_photographs(tmp_path / "photos")
    files = sorted(root.rglob("*-palette.png"))
    assert len(files) == len(CLASSES)
    for file in files:
        with Image.open(file) as stored:
            assert stored.mode == "P"
        image = np.asarray(read_image(file, channels=3))
        assert (image[:4, :4] == 255).all()
        assert not (image[4:8, 4:8] == 255).all()


def test_photographs_are_the_same_each_time(tmp_path):
    one, other, third = (write_photographs(tmp_path / str(n), seed=n // 2, per_class=2) for n in range(3))
    contents = [{file.name: file.read_bytes() for file in sorted(root.rglob("*.*"))} for root in (one, other, third)]
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


def test_a_pipe_among_the_images_is_named_and_does_not_hang(tmp_path):
    root = write_photographs(tmp_path / "photos", per_class=3)
    pipe = root / CLASSES[0] / "pipe.png"
    os.mkfifo(pipe)
    for source in open_data(DataConfig(source="folder", root=root)).values():
        for index in range(len(source)):
            if source.name(index) == str(pipe):
                with pytest.raises(
                    UnreadableImage, match=r"pipe\.png cannot be read as an image: it is not a regular file"
                ):
                    read_from(source, index, channels=3)
                return
    pytest.fail("the pipe was not listed")


def test_unreadable_files_are_named(tmp_path):
    root = write_photographs(tmp_path / "photos", per_class=3)
    unreadable = add_unreadable_files(root)
    sentences = []
    for source in open_data(DataConfig(source="folder", root=root)).values():
        for index in range(len(source)):
            try:
                read_from(source, index, channels=3)
            except UnreadableImage as error:
                sentences.append((source.name(index), str(error)))
    assert sorted(name for name, _ in sentences) == [str(path) for path in unreadable]
    assert all(sentence.startswith(f"{name} cannot be read as an image: ") for name, sentence in sentences)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"test_fraction": 0.0}, "--data.test-fraction must be above 0 and below 1, not 0.0"),
        ({"test_fraction": 1.0}, "--data.test-fraction must be above 0 and below 1, not 1.0"),
        ({"test_fraction": float("nan")}, "--data.test-fraction must be above 0 and below 1, not nan"),
        ({"val_fraction": 1.0}, "--data.val-fraction must be above 0 and below 1, not 1.0"),
        ({"split_seed": -1}, "--data.split-seed must be at least 0, not -1"),
        ({"workers": -1}, "--data.workers must be at least 0, not -1"),
        ({"class_names": ("a", "b", "a")}, "--data.class-names has 'a' twice"),
    ],
)
def test_values_out_of_range(values, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        replace(DIGITS, **values)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (DataConfig(source="folder"), "--data.source folder needs --data.root, the folder to read"),
        (DataConfig(source="idx"), "--data.source idx needs --data.root, the folder to read"),
        (
            DataConfig(source="digits", root=Path("photos")),
            "--data.source digits comes with its images: leave out --data",
        ),
        (
            DataConfig(source="digits", class_names=("a", "b")),
            "--data.class-names needs 10 names for digits, not 2",
        ),
        (
            DataConfig(source="folder", class_names=("a", "b")),
            "--data.source folder takes the classes' names from their fold",
        ),
        (DataConfig(source="folder", root=Path("gone")), "gone does not exist: give an existing folder as --data.root"),
        (DataConfig(source="idx", root=Path(__file__)), f"{__file__} is a file: give the folder that holds the data"),
    ],
)
def test_wrong_use(config, sentence):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        open_data(config)
    assert str(caught.value).startswith(sentence)
