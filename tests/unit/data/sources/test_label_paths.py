"""Paths in label files: images are found as people write their paths, and missing ones are named before training."""

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from processes import SOURCES
from vitral.data.config import DataConfig
from vitral.data.sources.source import Source
from vitral.datasets.opening import open_stored


def write(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(root / file)
    return root


def opened(root: Path, *paths: str, name: str = "labels.csv", **options: Any) -> Source:
    """The images of a file with these paths, with classes a and b in turn."""
    with (root / name).open("w", newline="") as stream:
        csv.writer(stream).writerows([["image", "label"], *((path, "ab"[row % 2]) for row, path in enumerate(paths))])
    return open_stored(DataConfig(source="csv", root=root / name, **options))["train"]


@pytest.mark.parametrize(
    ("files", "paths", "noted"),
    [
        (["0.png", "1.png"], ["0.png", "1.png"], None),
        (["images/0.png", "images/1.png"], ["0.png", "1.png"], None),
        (["a/0.png", "1.png"], ["a\\0.png", "1.png"], "backslashes in the images' paths are read as slashes"),
        (["0.png", "1.png"], [" 0.png", "1.png "], "spaces around the images' paths are left out"),
        (["test/0.JPG", "train/0.png", "train/1.jpg"], ["0", "1"], "without their ending: 0 is"),
        (["0.png", "1.png"], ["/mnt/old/0.png", "/mnt/old/1.png"], "without the folders /mnt/old/ of their paths"),
        (["a/0.png", "a/1.png"], ["C:\\data\\a\\0.png", "C:\\data\\a\\1.png"], "without the folders C:/data/ of"),
    ],
)
def test_images_are_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, files: list[str], paths: list[str], noted: str | None
) -> None:
    source = opened(write(tmp_path, *files), *paths, name="train.csv")
    found = [Path(source.name(index)) for index in range(2)]
    assert found == [tmp_path / file for file in files[-2:]]
    assert noted is None or noted in caplog.text


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("lost.png", "names lost.png, but {root}/lost.png does not exist: remove these rows"),
        ("A.PNG", "does not exist: the folder has a.png, so correct the case"),
        ("/elsewhere/lost.png", "make the paths relative to the folder of the images"),
        (
            "https://a.org/lost.png",
            "names https://a.org/lost.png, but https://a.org/lost.png does not exist: it is a URL",
        ),
        ("C:\\photos\\lost.png", "make the paths relative to the folder of the images"),
        ("a\0.png", "remove the NUL character"),
        ("a\nb.png", r"names 'a\nb.png', but"),
        ("x" * 300 + ".png", "does not exist"),
        ("", "has no image in row 4"),
    ],
)
def test_missing_images_are_refused_at_once(tmp_path: Path, path: str, sentence: str) -> None:
    write(tmp_path, "a.png", "b.png")
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        opened(tmp_path, "a.png", "b.png", path)
    assert sentence.format(root=tmp_path) in str(caught.value)


def test_missing_images_are_counted_in_folders_large_and_small(tmp_path: Path) -> None:
    files = [f"large/{number}.png" for number in range(50)] + [f"small{number}/0.png" for number in range(5)]
    write(tmp_path, *files)
    (tmp_path / files[7]).unlink()
    (tmp_path / files[52]).unlink()
    with pytest.raises(ValueError, match=r"names 2 images that do not exist, such as \S+/large/7\.png: remove"):
        opened(tmp_path, *files)
    assert len(opened(tmp_path, *files, on_error="skip")) == 55


def test_images_beside_the_file_when_another_folder_is_given(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "other/x.png")
    with pytest.raises(ValueError, match=r"so leave out --data\.images"):
        opened(tmp_path, "a.png", images=tmp_path / "other")
    with pytest.raises(ValueError, match="is not a folder: give the folder of the images"):
        opened(tmp_path, "a.png", images=tmp_path / "lost")


def test_absolute_paths_ignore_the_folder_with_a_note(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, "a.png", "b.png", "other/x.png")
    source = opened(tmp_path, str(tmp_path / "a.png"), str(tmp_path / "b.png"), images=tmp_path / "other")
    assert source.name(1) == str(tmp_path / "b.png")
    assert "--data.images is not used" in caplog.text


def test_images_in_a_folder_of_the_given_one(tmp_path: Path) -> None:
    """As COCO keeps annotations/instances_val2017.json beside train2017/ and val2017/."""
    write(tmp_path, "train2017/0.png", "val2017/0.png", "val2017/1.png")
    (tmp_path / "annotations").mkdir()
    source = opened(tmp_path / "annotations", "0.png", "1.png", name="instances_val2017.csv", images=tmp_path)
    assert source.name(0) == str(tmp_path / "val2017" / "0.png")


def test_two_endings_for_one_name(tmp_path: Path) -> None:
    write(tmp_path, "images/0.png", "images/0.jpg", "images/1.png")
    with pytest.raises(ValueError, match=r"names 0 without its ending, but \S+ has both 0.jpg and 0.png"):
        opened(tmp_path, "0", "1")


RATIO = """
import csv, sys, time
from pathlib import Path
from vitral.data.config import DataConfig
from vitral.datasets.opening import open_stored

for _ in range(3):
    start = time.thread_time()
    with open(sys.argv[1], newline="") as stream:
        rows = list(csv.reader(stream))
    between = time.thread_time()
    source = open_stored(DataConfig(source="csv", root=Path(sys.argv[1])))["train"]
    print((time.thread_time() - between) / (between - start))
    assert len(rows) == len(source) + 1 == 50_001
    del rows, source
"""


def test_a_large_file_opens_in_a_few_times_what_csv_takes_to_read_it(tmp_path: Path) -> None:
    """In a process of its own, as the garbage collector visits everything that other tests left."""
    rows = [[f"{number // 1000}/{number % 1000}.png", f"class {number % 100}"] for number in range(50_000)]
    for number in range(50):
        (tmp_path / str(number)).mkdir()
    for path, _ in rows:
        (tmp_path / path).touch()
    with (tmp_path / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["image", "label"], *rows])
    command = [sys.executable, "-c", RATIO, str(tmp_path / "labels.csv")]
    environment = os.environ | {"PYTHONPATH": SOURCES}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert min(map(float, run.stdout.split())) < 8
