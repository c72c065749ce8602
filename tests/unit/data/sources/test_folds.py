"""Folds of cross-validation: every image is in one of them, classes are in all, and groups stay whole."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitral.data.config import DataConfig
from vitral.data.sources.folds import assign_folds
from vitral.data.sources.source import ArraySource, Labels, Source
from vitral.datasets.opening import open_data


def source(labels: Labels) -> Source:
    classes = tuple("abcdefgh")[: labels.max() + 1 if labels.ndim == 1 else labels.shape[1]]
    return ArraySource(title="t", images=np.zeros((len(labels), 1, 1), np.uint8), labels=labels, classes=classes)


def folds_of(root: str | Path, folds: int, **options: Any) -> list[dict[str, Source]]:
    kind = {"source": "digits"} if root == "digits" else {"source": "folder", "root": Path(root)}
    return [open_data(DataConfig(**kind, val_fold=f"{fold}/{folds}", **options)) for fold in range(1, folds + 1)]


def names(data: Source) -> list[str]:
    return [data.name(index) for index in range(len(data))]


@given(st.lists(st.integers(5, 40), min_size=1, max_size=5), st.integers(2, 5), st.integers(0, 2**40))
def test_classes_are_in_every_fold(counts: list[int], folds: int, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    assigned = assign_folds(source(labels), None, folds=folds, seed=seed)
    sizes = np.bincount(assigned, minlength=folds)
    assert sizes.max() - sizes.min() <= 1
    for label in range(len(counts)):
        per_fold = np.bincount(assigned[labels == label], minlength=folds)
        assert per_fold.max() - per_fold.min() <= 1
    assert np.array_equal(assigned, assign_folds(source(labels), None, folds=folds, seed=seed))


def test_another_seed_gives_other_folds() -> None:
    data = source(np.arange(60) % 3)
    assert len({tuple(assign_folds(data, None, folds=3, seed=seed)) for seed in range(5)}) == 5


def test_groups_stay_whole() -> None:
    labels, groups = np.arange(240) % 3, np.arange(240) // 6
    assigned = assign_folds(source(labels), groups, folds=5, seed=0)
    assert all(len(set(assigned[groups == group])) == 1 for group in range(40))
    assert np.bincount(assigned).tolist() == [48] * 5


def test_every_label_of_several_is_in_every_fold() -> None:
    labels = (np.random.PCG64(3).random_raw(400 * 3).reshape(400, 3) % 4 == 0).astype(np.float32)
    assigned = assign_folds(source(labels), None, folds=4, seed=0)
    per_fold = np.stack([labels[assigned == fold].sum(0) for fold in range(4)])
    assert np.abs(np.bincount(assigned) - 100).max() <= 4
    assert np.abs(per_fold / labels.sum(0) - 0.25).max() < 0.05


def test_every_fold_has_small_and_large_numbers() -> None:
    numbers = np.random.PCG64(3).random_raw(200)[:, None].astype(np.float32)
    assigned = assign_folds(source(numbers), None, folds=5, seed=0)
    ranks = numbers[:, 0].argsort().argsort()
    assert all(
        np.histogram(ranks[assigned == fold], bins=10, range=(0, 200))[0].tolist() == [4] * 10 for fold in range(5)
    )


@pytest.mark.parametrize(("count", "folds"), [(20, 15), (15, 15), (109, 20), (7, 2)])
def test_few_numbers_for_many_folds(count: int, folds: int) -> None:
    numbers = np.random.PCG64(3).random_raw(count)[:, None].astype(np.float32)
    sizes = np.bincount(assign_folds(source(numbers), None, folds=folds, seed=0), minlength=folds)
    assert sizes.min() >= 1
    assert sizes.max() - sizes.min() <= 1


def test_each_training_image_is_validated_once() -> None:
    """The test images are those of a run without folds."""
    whole = open_data(DataConfig(source="digits"))
    runs = folds_of("digits", 3)
    held_out = [name for run in runs for name in names(run["val"])]
    assert sorted(held_out) == sorted(names(whole["train"]))
    for run in runs:
        assert names(run["test"]) == names(whole["test"])
        assert not set(names(run["train"])) & set(names(run["val"]))
        assert len(run["train"]) + len(run["val"]) == len(whole["train"])


@pytest.mark.parametrize("splits", [("train", "val"), ("train", "val", "test")])
def test_folds_replace_a_validation_split(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, splits: tuple[str, ...]
) -> None:
    for split in splits:
        for label in "ab":
            (tmp_path / split / label).mkdir(parents=True)
            for number in range(4):
                (tmp_path / split / label / f"{number}.png").touch()
    runs = folds_of(tmp_path, 2)
    assert {Path(name).parts[-3] for run in runs for name in names(run["val"])} == {"train"}
    assert all(run.keys() == {"train", "val", *splits[2:]} for run in runs)
    assert "its own validation images are left out" in caplog.text


@pytest.mark.parametrize(
    ("labels", "groups", "sentence"),
    [
        ([0] * 9 + [1] * 2, None, r"class 'b' has 2 training images, fewer than 3 folds"),
        ([0] * 9 + [1] * 9, [0] * 9 + [1] * 9, r"are in 2 groups, fewer than 3 folds"),
        ([0] * 9 + [1] * 9, [0, 1, 2] * 3 + [3] * 9, r"class 'b' has too few groups"),
    ],
)
def test_too_little_for_so_many_folds(labels: list[int], groups: list[int] | None, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        assign_folds(source(np.array(labels)), None if groups is None else np.array(groups), folds=3, seed=0)


@pytest.mark.parametrize("fold", ["0/5", "6/5", "1/1", "2", "a/b", "1/2/3", "-1/5", ""])
def test_what_is_no_fold(fold: str) -> None:
    with pytest.raises(ValueError, match=r"--data\.val-fold takes one of several folds"):
        DataConfig(source="digits", val_fold=fold)


@pytest.mark.parametrize("other", [{"val_fraction": 0.1}, {"train_on_val": True}])
def test_one_way_of_validation(other: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="leave one of them out"):
        DataConfig(source="digits", val_fold="1/5", **other)
