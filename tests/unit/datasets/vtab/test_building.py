"""What VTAB-1k takes of a data set: complete splits, 800 and 200 images, and sentences where something is missing."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from vitral.data.sources.source import ArraySource, FileSource, Source
from vitral.datasets.registry import Preset
from vitral.datasets.vtab.building import divided, vtab_task
from vitral.datasets.vtab.tasks import VTAB1K

SIZES = {
    "caltech101": (2_754, 306, 6_084),
    "cifar100": (45_000, 5_000, 10_000),
    "dtd": (1_880, 1_880, 1_880),
    "flowers102": (1_020, 1_020, 6_149),
    "pets": (2_944, 736, 3_669),
    "sun397": (76_128, 10_875, 21_750),
    "svhn": (65_931, 7_326, 26_032),
    "camelyon": (262_144, 32_768, 32_768),
    "eurosat": (16_200, 5_400, 5_400),
    "resisc45": (18_900, 6_300, 6_300),
    "retinopathy": (35_126, 10_906, 42_670),
    "clevr-count": (63_000, 7_000, 15_000),
    "clevr-distance": (63_000, 7_000, 15_000),
    "dmlab": (65_550, 22_628, 22_735),
    "kitti-distance": (6_347, 423, 711),
    "dsprites-location": (589_824, 73_728, 73_728),
    "dsprites-orientation": (589_824, 73_728, 73_728),
    "smallnorb-azimuth": (24_300, 12_150, 12_150),
    "smallnorb-elevation": (24_300, 12_150, 12_150),
}
"""Images of the complete splits, as VTAB has them."""
DIVIDED = {
    "caltech101": (3_060, (0.9,)),
    "cifar100": (50_000, (0.9,)),
    "pets": (3_680, (0.8,)),
    "svhn": (73_257, (0.9,)),
    "clevr-count": (70_000, (0.9,)),
    "eurosat": (27_000, (0.6, 0.2)),
    "resisc45": (31_500, (0.6, 0.2)),
    "dsprites-location": (737_280, (0.8, 0.1)),
}
"""What is divided, and how."""


def numbered(count: int) -> ArraySource:
    """Images that are their own numbers, in a way."""
    return ArraySource(
        title="numbers", images=np.zeros((count, 1, 1), np.uint8), labels=np.arange(count), classes=("all",)
    )


def original(task: str) -> Preset:
    opened = VTAB1K[task].open
    assert isinstance(opened, partial)
    return opened.keywords["original"]


@pytest.mark.parametrize("name", VTAB1K)
def test_sizes_of_the_complete_splits(name: str) -> None:
    assert tuple(original(name).num_images[split] for split in ("train", "val", "test")) == SIZES[name]


@pytest.mark.parametrize("name", DIVIDED)
def test_parts_have_the_sizes_of_vtab(name: str) -> None:
    count, shares = DIVIDED[name]
    parts = divided(numbered(count), shares)
    assert [len(part) for part in parts] == list(SIZES[name][: len(parts)])
    assert (np.sort(np.concatenate([part.labels for part in parts])) == np.arange(count)).all()


def test_small_norb_is_tested_on_half_of_its_test_images() -> None:
    val, test = divided(numbered(24_300), (0.5,))
    assert (len(val), len(test)) == (12_150, 12_150)
    assert not set(val.labels.tolist()) & set(test.labels.tolist())


def opened(root: Path) -> dict[str, Source]:
    return {"train": numbered(1000), "val": numbered(300), "test": numbered(50)}


SMALL = Preset(
    title="Numbers",
    num_classes=1,
    num_images={"train": 1000, "val": 300, "test": 50},
    needs="numbers",
    origin="a book",
    open=opened,
)


def test_800_and_200_images_always_the_same(tmp_path: Path) -> None:
    (tmp_path / "numbers").mkdir()
    task = vtab_task("numbers", "Numbers", "natural", SMALL, folder="numbers")
    first, again = task.open(tmp_path), task.open(tmp_path)
    assert {split: len(source) for split, source in first.items()} == {"train": 800, "val": 200, "test": 50}
    for split, most in (("train", 1000), ("val", 300)):
        labels = first[split].labels
        assert labels.tolist() == again[split].labels.tolist()
        assert len(set(labels.tolist())) == len(labels)
        assert abs(labels.mean() - most / 2) < most / 20, "spread over all"


def test_what_is_missing_is_told_in_a_sentence(tmp_path: Path) -> None:
    task = vtab_task("numbers", "Numbers", "natural", SMALL, folder="numbers")
    with pytest.raises(ValueError, match=r"^VTAB's images cannot be shipped: name the folder .* by --data\.root$"):
        task.open(None)
    with pytest.raises(
        ValueError, match=rf"^{tmp_path}/none is no folder: name the one with VTAB's data sets by --data"
    ):
        task.open(tmp_path / "none")
    with pytest.raises(ValueError, match=rf"^there is no {tmp_path}/numbers: Numbers needs numbers, from a book$"):
        task.open(tmp_path)
    (tmp_path / "numbers").mkdir()
    less = replace(SMALL, num_images={"train": 1000, "val": 301, "test": 50})
    words = (
        rf"^{tmp_path}/numbers has 300 val images, and the complete data set 301; Numbers needs numbers, from a book$"
    )
    with pytest.raises(ValueError, match=words):
        vtab_task("numbers", "Numbers", "natural", less, folder="numbers").open(tmp_path)
    fewer = replace(SMALL, num_classes=2)
    words = rf"^{tmp_path}/numbers has 1 classes, and the complete data set 2; Numbers needs numbers, from a book$"
    with pytest.raises(ValueError, match=words):
        vtab_task("numbers", "Numbers", "natural", fewer, folder="numbers").open(tmp_path)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_the_first_image_of_each_split_is_read(split: str, tmp_path: Path) -> None:
    """Lists are no use without images, and which are missing is told before any is waited for."""
    (tmp_path / "numbers").mkdir()

    def without(root: Path) -> dict[str, Source]:
        lost = FileSource(
            root=root, files=["lost.png"] * SMALL.num_images[split], labels=numbered(1000).labels, classes=("all",)
        )
        return opened(root) | {split: lost}

    task = vtab_task("numbers", "Numbers", "natural", replace(SMALL, open=without), folder="numbers")
    words = "lost.png cannot be read as an image: there is no such file; Numbers needs numbers, from a book$"
    with pytest.raises(ValueError, match=rf"^{tmp_path}/numbers/{words}"):
        task.open(tmp_path)


def test_each_says_where_it_comes_from(tmp_path: Path) -> None:
    """Where its folder is not there, and where nothing is in it; advice that holds for other commands has no place."""
    for name, task in VTAB1K.items():
        with pytest.raises(ValueError, match=r"^there is no \S+: .* needs .*, from https?://\S+") as absent:
            task.open(tmp_path)
        place = tmp_path / str(absent.value).removeprefix("there is no ").partition(":")[0]
        place.mkdir()
        with pytest.raises(
            ValueError, match=rf"{place}\S*( has no| cannot be read|: unpack).*; .* needs .*, from https?://\S+"
        ) as empty:
            task.open(tmp_path)
        assert original(name).wanted in str(empty.value)
        assert "\n" not in str(empty.value)
        assert "--data.root" not in str(empty.value)
        place.rmdir()


def test_each_names_its_archives() -> None:
    """Files that are not where the others are."""
    assert "https://storage.googleapis.com/dmlab-vtab/dmlab.tar.gz" in original("dmlab").wanted
    assert "mapping/ (devkit_object.zip)" in original("kitti-distance").wanted
    assert "sun397_tfds_va.txt" in original("sun397").wanted
    assert "tensorflow_datasets/image_classification/" in original("sun397").wanted
    assert "/90528/2877/retinopathy_solution.csv" in original("retinopathy").wanted
