"""Random numbers, canvas and source of the drawn tasks."""

import numpy as np
import pytest

from vitral.data.sources.source import Source, read_from
from vitral.datasets.mini.drawing import between, colour, drawn_source, numbers, pick, samples, shrink


def draw_factor(title: str, index: int, factor: int) -> np.ndarray:
    """A picture of one colour, too bright in blue."""
    return np.broadcast_to(np.array([factor / 255, index / 255, 2.0]), (64, 64, 3))


def test_numbers_depend_on_task_image_and_place_alone():
    assert numbers("a", 3, 5).tolist() == numbers("a", 3, 9)[:5].tolist()
    rows = np.stack([numbers(task, index, 500) for task in ("a", "b", "ab", "ba") for index in (0, 1)])
    assert len(np.unique(rows)) == rows.size
    assert np.abs(np.corrcoef(rows) - np.eye(8)).max() < 0.2
    assert rows.min() >= 0
    assert rows.max() < 1


def test_numbers_stay_what_they_are():
    """A new version that drew other images would make old figures incomparable."""
    assert numbers("mini-count", 7, 2).tolist() == [0.7150629847250678, 0.9481812091456685]


def test_small_tools():
    assert between(2.0, 4.0, 0.25) == 2.5
    assert [pick("abc", fraction) for fraction in (0.0, 0.33, 0.34, 0.99)] == ["a", "a", "b", "c"]
    assert colour(1 / 3, 1.0, 0.5).tolist() == pytest.approx([0, 0.5, 0])
    assert samples(1)[[0, 63]].tolist() == [0.5, 63.5]
    assert samples(2)[:3].tolist() == [0.25, 0.75, 1.25]


def test_a_pixel_is_the_mean_of_its_samples():
    inside = np.zeros((128, 128, 1), bool)
    inside[:2, 2:4] = True
    inside[127, 127] = True
    covered = shrink(inside)
    assert covered.shape == (64, 64, 1)
    assert (covered[0, 1, 0], covered[63, 63, 0], covered.sum()) == (1, 0.25, 1.25)


def test_every_factor_comes_equally_often():
    source = drawn_source("t", draw_factor, classes=("a", "b"), class_of=(0, 0, 1), size=301)
    assert isinstance(source, Source)
    counts = np.bincount(source.factors)
    assert sorted(counts) == [100, 100, 101]
    assert source.labels.tolist() == (source.factors == 2).astype(int).tolist()
    assert np.bincount(source.factors[:30]).tolist() == [10, 10, 10]
    other = drawn_source("u", draw_factor, classes=("a", "b"), class_of=(0, 0, 1), size=301)
    assert 0.2 < (source.factors == other.factors).mean() < 0.5


def test_a_source_draws_what_its_factor_says():
    source = drawn_source("t", draw_factor, classes=("a", "b"), class_of=(0, 0, 1), size=9)
    assert (len(source), source.name(4)) == (9, "t[4]")
    for index in range(9):
        image = read_from(source, index, channels=3)
        assert image.size == (64, 64)
        assert image.getpixel((5, 60)) == (source.factors[index], index, 255)
