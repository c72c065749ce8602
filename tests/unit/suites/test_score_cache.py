"""Scores on disk: found again, and never mistaken for others."""

import json
from pathlib import Path

import pytest

from vitral.suites.score_cache import Kept
from vitral.suites.transfer import Score


class Measure:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> list[Score]:
        self.calls += 1
        return [Score(method="kNN", values=[0.25, self.calls / 8], num_images=8, seconds=0.5)]


def test_the_same_key_is_measured_once(tmp_path: Path) -> None:
    measure, said = Measure(), []
    kept = Kept(tmp_path / "features", say=said.append)
    first, second = (kept.of(("model", "images"), measure) for _ in range(2))
    assert first == second == [Score(method="kNN", values=[0.25, 0.125], num_images=8, seconds=0.5)]
    assert (measure.calls, kept.taken) == (1, 1)
    kept.of(("model", "other images"), measure)
    assert (measure.calls, kept.taken, said) == (2, 1, [])


def test_without_a_folder_nothing_is_kept() -> None:
    measure, kept = Measure(), Kept(None, say=pytest.fail)
    for _ in range(2):
        kept.of(("model",), measure)
    assert (measure.calls, kept.taken) == (2, 0)


def test_another_version_measures_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure, kept = Measure(), Kept(tmp_path, say=pytest.fail)
    kept.of(("model",), measure)
    monkeypatch.setattr("vitral.evals.cache.__version__", "99.0")
    kept.of(("model",), measure)
    assert (measure.calls, kept.taken) == (2, 0)


def test_what_cannot_be_written_costs_nothing_else(tmp_path: Path) -> None:
    """A folder lies where the file would."""
    said: list[str] = []
    kept = Kept(tmp_path, say=said.append)
    expected = kept.of(("model",), Measure())
    (path,) = tmp_path.iterdir()
    path.unlink()
    path.mkdir()
    assert [vars(score) for score in kept.of(("model",), Measure())] == [vars(score) for score in expected]
    assert [sentence.removeprefix(f"{path} cannot be ") for sentence in said] == [
        f"used ([Errno 21] Is a directory: '{path}'): its scores are measured again",
        "written (Is a directory): what it would hold is not kept",
    ]


@pytest.mark.parametrize("damage", ["truncated", "empty", "no object", "a figure", "no seeds", "of another model"])
def test_a_file_that_cannot_be_used_is_told_of_and_made_anew(tmp_path: Path, damage: str) -> None:
    measure, said = Measure(), []
    kept = Kept(tmp_path, say=said.append)
    kept.of(("mine",), measure)
    (mine,) = tmp_path.iterdir()
    whole = json.loads(mine.read_text())
    (row,) = whole["scores"]
    texts = {
        "truncated": mine.read_text()[:60],
        "empty": "",
        "no object": "[]",
        "a figure": json.dumps(whole | {"scores": [row | {"num_images": "many"}]}),
        "no seeds": json.dumps(whole | {"scores": [row | {"values": []}]}),
        "of another model": json.dumps(whole | {"key": "theirs"}),
    }
    mine.write_text(texts[damage])
    (found,) = kept.of(("mine",), measure)
    assert (measure.calls, found.values, kept.taken) == (2, [0.25, 0.25], 0)
    (sentence,) = said
    assert sentence.startswith(f"{mine} cannot be used (")
    assert sentence.endswith("its scores are measured again")
    assert kept.of(("mine",), measure) == [found]
