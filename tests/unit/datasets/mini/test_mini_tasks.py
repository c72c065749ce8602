"""The suite as a whole."""

import pickle
import runpy
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier

from vitral.data.sources.source import Source, read_from
from vitral.datasets.mini import drawing, tasks
from vitral.datasets.registry import TASKS, tasks_of

IMAGES = Path(__file__).parents[4] / "docs" / "images"

MINI = tasks_of("vtab-mini")
DRAWN = [name for name in MINI if name not in ("mini-digits", "mini-fashion")]


def test_groups_and_classes():
    assert Counter(task.group for task in MINI.values()) == {"natural": 2, "specialized": 2, "structured": 6}
    assert {name.removeprefix("mini-"): task.data.num_classes for name, task in MINI.items()} == {
        "digits": 10,
        "fashion": 10,
        "textures": 10,
        "tissue": 2,
        "count": 8,
        "distance": 6,
        "location": 16,
        "orientation": 16,
        "azimuth": 18,
        "elevation": 9,
    }


def test_exceptions_from_cutting_and_mirroring_are_those_of_the_tasks_they_are_made_after():
    assert {task.title for task in MINI.values() if not task.flip} == {"Location", "Orientation", "Azimuth"}
    assert {task.title for task in MINI.values() if not task.crop} == {"Count", "Distance", "Location"}


@pytest.mark.parametrize("name", DRAWN)
def test_drawn_splits(name):
    task = TASKS[name]
    num_classes = task.data.num_classes
    splits = task.open(None)
    assert {split: len(source) for split, source in splits.items()} == task.data.num_images
    assert task.data.num_images == {"train": 800, "val": 200, "test": 1000}
    names = [source.name(index) for source in splits.values() for index in range(len(source))]
    assert len(set(names)) == 2000
    for source in splits.values():
        assert isinstance(source, Source)
        assert len(source.classes) == len(set(source.classes)) == num_classes
        counts = np.bincount(source.labels, minlength=num_classes)
        # each class in proportion to the factors that make it, of which a split breaks one run at most at either end
        fractions = {"mini-orientation": np.array([3, 2] * 8) / 40}.get(name, np.ones(num_classes) / num_classes)
        assert np.abs(counts - fractions * len(source)).max() <= 4
    image = read_from(splits["test"], 999, channels=3)
    assert (image.mode, image.size) == ("RGB", (64, 64))


@pytest.mark.parametrize("name", DRAWN)
def test_images_depend_on_nothing_but_their_place(name):
    """Read in another order, in a copy as another process gets it, after others were forgotten."""
    source = TASKS[name].open(None)["val"]
    copy = pickle.loads(pickle.dumps(source))
    first = [read_from(source, index, channels=3).tobytes() for index in range(4)]
    drawing._pixels.cache_clear()
    assert [read_from(copy, index, channels=3).tobytes() for index in (3, 2, 1, 0)] == first[::-1]
    assert len(set(first)) == 4


CHECKSUMS = {
    "mini-textures": 3229268811,
    "mini-tissue": 1707422349,
    "mini-count": 128619206,
    "mini-distance": 3660417738,
    "mini-location": 294729068,
    "mini-orientation": 2364411952,
    "mini-azimuth": 377013876,
    "mini-elevation": 2473079951,
}


@pytest.mark.parametrize("name", DRAWN)
def test_images_stay_what_they_are(name):
    """Drawn otherwise, they would make figures measured before incomparable."""
    test = TASKS[name].open(None)["test"]
    images = [read_from(test, index, channels=3) for index in (0, 500, 999)]
    assert zlib.crc32(b"".join(image.tobytes() for image in images)) == CHECKSUMS[name]


def test_classes_have_names():
    names = {task: TASKS[f"mini-{task}"].open(None)["test"].classes for task in ("count", "distance", "azimuth")}
    assert names["count"] == (*"3456789", "10")
    assert names["distance"] == ("0 to 8", "8 to 8.5", "8.5 to 9", "9 to 9.5", "9.5 to 10", "10 to 100")
    assert names["azimuth"][17] == "340°"


def test_digits_are_all_there_once():
    splits = TASKS["mini-digits"].open(None)
    assert {split: len(source) for split, source in splits.items()} == {"train": 800, "val": 200, "test": 797}
    assert TASKS["mini-digits"].data.num_images == {"train": 800, "val": 200, "test": 797}
    names = {source.name(index) for source in splits.values() for index in range(len(source))}
    assert names == {f"digits[{index}]" for index in range(1797)}
    for source in splits.values():
        assert np.bincount(source.labels, minlength=10).min() > 0.06 * len(source)


def test_fashion_mnist_keeps_its_own_test_images(fashion_mnist):
    splits = TASKS["mini-fashion"].open(None)
    assert {split: len(source) for split, source in splits.items()} == {"train": 800, "val": 200, "test": 1000}
    assert splits["train"].classes[9] == "ankle boot"
    names = {split: {source.name(index) for index in range(len(source))} for split, source in splits.items()}
    assert {split: len(part) for split, part in names.items()} == {"train": 800, "val": 200, "test": 1000}
    assert names["train"].isdisjoint(names["val"])
    assert all("t10k" in name for name in names["test"])
    assert read_from(splits["test"], 0, channels=3).size == (28, 28)


def test_fashion_mnist_in_the_folder_of_the_data(fashion_mnist, tmp_path):
    (tmp_path / "fashion-mnist").symlink_to(fashion_mnist)
    there, here = TASKS["mini-fashion"].open(None)["val"], TASKS["mini-fashion"].open(tmp_path)["val"]
    assert here.labels.tolist() == there.labels.tolist()


def test_missing_fashion_mnist_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "FASHION_MNIST", tmp_path / "gone")
    for root in (None, tmp_path):
        with pytest.raises(ValueError, match=r"^there is no \S+: install Debian's package [^\n]+$"):
            TASKS["mini-fashion"].open(root)


def test_the_picture_of_the_guide_is_drawn(fashion_mnist, tmp_path):
    runpy.run_path(str(IMAGES / "vtab_mini.py"))["draw"](tmp_path / "tasks.png")
    with Image.open(tmp_path / "tasks.png") as picture, Image.open(IMAGES / "vtab-mini.png") as committed:
        assert picture.size == committed.size


def raw_pixels(source: Source, count: int) -> np.ndarray:
    """The first images, at half their height and width, as vectors around 0."""
    images = [read_from(source, index, channels=3).resize((32, 32), Image.Resampling.BOX) for index in range(count)]
    return np.stack([np.asarray(image) for image in images]).reshape(count, -1) / 255 - 0.5


@pytest.mark.parametrize(
    ("name", "classifier", "count", "guessing"),
    [
        ("mini-count", RidgeClassifier(100), 250, 1 / 8),
        ("mini-distance", RidgeClassifier(100), 200, 1 / 6),
        ("mini-location", RidgeClassifier(100), 200, 1 / 16),
        ("mini-orientation", KNeighborsClassifier(1), 400, 3 / 40),
        ("mini-azimuth", KNeighborsClassifier(1), 200, 1 / 18),
        ("mini-elevation", RidgeClassifier(100), 500, 1 / 9),
    ],
)
def test_raw_pixels_beat_guessing_and_stay_far_from_perfect(name, classifier, count, guessing):
    splits = TASKS[name].open(None)
    classifier.fit(raw_pixels(splits["train"], count), splits["train"].labels[:count])
    accuracy = classifier.score(raw_pixels(splits["test"], 200), splits["test"].labels[:200])
    assert 1.3 * guessing < accuracy < 0.7
