"""Sampling of VTAB-1k: complete splits, 800 and 200 images, and one sentence if something is missing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitral.data.sources.source import ArraySource, FileSource, Source
from vitral.datasets.data_set import DataSet, Task
from vitral.datasets.registry import TASKS, tasks_of
from vitral.datasets.vtab.sampling import split_by_fractions

SIZES = {
    "vtab-caltech101": (2_754, 306, 6_084),
    "vtab-cifar100": (45_000, 5_000, 10_000),
    "vtab-dtd": (1_880, 1_880, 1_880),
    "vtab-flowers102": (1_020, 1_020, 6_149),
    "vtab-pets": (2_944, 736, 3_669),
    "vtab-sun397": (76_128, 10_875, 21_750),
    "vtab-svhn": (65_931, 7_326, 26_032),
    "vtab-camelyon": (262_144, 32_768, 32_768),
    "vtab-eurosat": (16_200, 5_400, 5_400),
    "vtab-resisc45": (18_900, 6_300, 6_300),
    "vtab-retinopathy": (35_126, 10_906, 42_670),
    "vtab-clevr-count": (63_000, 7_000, 15_000),
    "vtab-clevr-distance": (63_000, 7_000, 15_000),
    "vtab-dmlab": (65_550, 22_628, 22_735),
    "vtab-kitti-distance": (6_347, 423, 711),
    "vtab-dsprites-location": (589_824, 73_728, 73_728),
    "vtab-dsprites-orientation": (589_824, 73_728, 73_728),
    "vtab-smallnorb-azimuth": (24_300, 12_150, 12_150),
    "vtab-smallnorb-elevation": (24_300, 12_150, 12_150),
}
"""Images of the complete splits, as VTAB has them."""
SPLIT = {
    "vtab-caltech101": (3_060, (0.9,)),
    "vtab-cifar100": (50_000, (0.9,)),
    "vtab-pets": (3_680, (0.8,)),
    "vtab-svhn": (73_257, (0.9,)),
    "vtab-clevr-count": (70_000, (0.9,)),
    "vtab-eurosat": (27_000, (0.6, 0.2)),
    "vtab-resisc45": (31_500, (0.6, 0.2)),
    "vtab-dsprites-location": (737_280, (0.8, 0.1)),
}
"""What is split, and how."""


def numbered(count: int) -> ArraySource:
    """Images that are their own numbers, in a way."""
    return ArraySource(
        title="numbers", images=np.zeros((count, 1, 1), np.uint8), labels=np.arange(count), classes=("all",)
    )


def original(task: str) -> DataSet:
    return TASKS[f"vtab-{task}"].data


@pytest.mark.parametrize("name", tasks_of("vtab1k"))
def test_sizes_of_the_complete_splits(name: str) -> None:
    assert tuple(TASKS[name].data.num_images[split] for split in ("train", "val", "test")) == SIZES[name]


@pytest.mark.parametrize("name", SPLIT)
def test_parts_have_the_sizes_of_vtab(name: str) -> None:
    count, fractions = SPLIT[name]
    parts = split_by_fractions(numbered(count), fractions)
    assert [len(part) for part in parts] == list(SIZES[name][: len(parts)])
    assert (np.sort(np.concatenate([part.labels for part in parts])) == np.arange(count)).all()


def test_small_norb_is_tested_on_half_of_its_test_images() -> None:
    val, test = split_by_fractions(numbered(24_300), (0.5,))
    assert (len(val), len(test)) == (12_150, 12_150)
    assert not set(val.labels.tolist()) & set(test.labels.tolist())


def opened(root: Path) -> dict[str, Source]:
    return {"train": numbered(1000), "val": numbered(300), "test": numbered(50)}


SMALL = DataSet(
    title="Numbers",
    num_classes=1,
    num_images={"train": 1000, "val": 300, "test": 50},
    files="numbers",
    origin="a book",
    reader=opened,
)


def task_of(data: DataSet) -> Task:
    return Task(title="Numbers", suite="vtab1k", group="natural", data=data, folder="numbers")


def test_800_and_200_images_always_the_same(tmp_path: Path) -> None:
    (tmp_path / "numbers").mkdir()
    task = task_of(SMALL)
    first, again = task.open(tmp_path), task.open(tmp_path)
    assert {split: len(source) for split, source in first.items()} == {"train": 800, "val": 200, "test": 50}
    for split, most in (("train", 1000), ("val", 300)):
        labels = first[split].labels
        assert labels.tolist() == again[split].labels.tolist()
        assert len(set(labels.tolist())) == len(labels)
        assert abs(labels.mean() - most / 2) < most / 20, "spread over all"


def test_what_is_missing_is_one_sentence(tmp_path: Path) -> None:
    task = task_of(SMALL)
    with pytest.raises(ValueError, match=r"^VTAB's images cannot be shipped: give their folder with --data\.root$"):
        task.open(None)
    with pytest.raises(
        ValueError, match=rf"^{tmp_path}/none is not a folder: give the folder of VTAB's data sets with --data"
    ):
        task.open(tmp_path / "none")
    with pytest.raises(ValueError, match=rf"^there is no {tmp_path}/numbers: Numbers needs numbers, from a book$"):
        task.open(tmp_path)
    (tmp_path / "numbers").mkdir()
    less = replace(SMALL, num_images={"train": 1000, "val": 301, "test": 50})
    place = rf"^{tmp_path}/numbers"
    words = rf"{place} has 300 val images, but the complete data set has 301; Numbers needs numbers, from a book$"
    with pytest.raises(ValueError, match=words):
        task_of(less).open(tmp_path)
    fewer = replace(SMALL, num_classes=2)
    words = rf"^{tmp_path}/numbers has 1 classes, but the complete data set has 2; Numbers needs numbers, from a book$"
    with pytest.raises(ValueError, match=words):
        task_of(fewer).open(tmp_path)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_the_first_image_of_each_split_is_read(split: str, tmp_path: Path) -> None:
    """Lists are no use without images, so missing images are reported before anything is computed."""
    (tmp_path / "numbers").mkdir()

    def without(root: Path) -> dict[str, Source]:
        lost = FileSource(
            root=root, files=["lost.png"] * SMALL.num_images[split], labels=numbered(1000).labels, classes=("all",)
        )
        return opened(root) | {split: lost}

    task = task_of(replace(SMALL, reader=without))
    words = "lost.png cannot be read as an image: there is no such file; Numbers needs numbers, from a book$"
    with pytest.raises(ValueError, match=rf"^{tmp_path}/numbers/{words}"):
        task.open(tmp_path)


def test_each_says_where_it_comes_from(tmp_path: Path) -> None:
    """Where its folder is not there, and where nothing is in it; advice that holds for other commands has no place."""
    for task in tasks_of("vtab1k").values():
        with pytest.raises(ValueError, match=r"^there is no \S+: .* needs .*, from https?://\S+") as absent:
            task.open(tmp_path)
        place = tmp_path / str(absent.value).removeprefix("there is no ").partition(":")[0]
        place.mkdir()
        with pytest.raises(
            ValueError, match=rf"{place}\S*( has no| cannot be read|: unpack).*; .* needs .*, from https?://\S+"
        ) as empty:
            task.open(tmp_path)
        assert task.data.requirements in str(empty.value)
        assert "\n" not in str(empty.value)
        assert "--data.root" not in str(empty.value)
        place.rmdir()


def test_each_names_its_archives() -> None:
    """Files that are not where the others are."""
    assert "https://storage.googleapis.com/dmlab-vtab/dmlab.tar.gz" in original("dmlab").requirements
    assert "mapping/ (devkit_object.zip)" in original("kitti-distance").requirements
    assert "sun397_tfds_va.txt" in original("sun397").requirements
    assert "tensorflow_datasets/image_classification/" in original("sun397").requirements
    assert "/90528/2877/retinopathy_solution.csv" in original("retinopathy").requirements
