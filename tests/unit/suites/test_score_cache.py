"""Scores on disk: read again for the same key, and never for another."""

import json
from pathlib import Path

import pytest

from vitral.suites.score_cache import ScoreCache
from vitral.suites.transfer import Score


class Evaluation:
    """Counts how often scores are computed."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> list[Score]:
        self.calls += 1
        return [Score(method="kNN", values=[0.25, self.calls / 8], num_images=8, seconds=0.5)]


def test_a_key_is_computed_once(tmp_path: Path) -> None:
    evaluation, warnings = Evaluation(), []
    cache = ScoreCache(tmp_path / "features", warn=warnings.append)
    first, second = (cache.get_or_compute(("model", "images"), evaluation) for _ in range(2))
    assert first == second == [Score(method="kNN", values=[0.25, 0.125], num_images=8, seconds=0.5)]
    assert (evaluation.calls, cache.hits) == (1, 1)
    cache.get_or_compute(("model", "other images"), evaluation)
    assert (evaluation.calls, cache.hits, warnings) == (2, 1, [])


def test_without_a_folder_nothing_is_cached() -> None:
    evaluation, cache = Evaluation(), ScoreCache(None, warn=pytest.fail)
    for _ in range(2):
        cache.get_or_compute(("model",), evaluation)
    assert (evaluation.calls, cache.hits) == (2, 0)


def test_another_version_of_vitral_computes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation, cache = Evaluation(), ScoreCache(tmp_path, warn=pytest.fail)
    cache.get_or_compute(("model",), evaluation)
    monkeypatch.setattr("vitral.evals.cache.__version__", "99.0")
    cache.get_or_compute(("model",), evaluation)
    assert (evaluation.calls, cache.hits) == (2, 0)


def test_a_file_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    """There is a folder in place of the file."""
    warnings: list[str] = []
    cache = ScoreCache(tmp_path, warn=warnings.append)
    expected = cache.get_or_compute(("model",), Evaluation())
    (path,) = tmp_path.iterdir()
    path.unlink()
    path.mkdir()
    scores = cache.get_or_compute(("model",), Evaluation())
    assert [vars(score) for score in scores] == [vars(score) for score in expected]
    reading, writing = (warning.removeprefix(f"{path} cannot be ") for warning in warnings)
    assert reading == f"used ([Errno 21] Is a directory: '{path}'): its scores are computed again"
    assert writing.startswith("written (Is a directory)")


@pytest.mark.parametrize("damage", ["truncated", "empty", "no object", "a number", "no seeds", "of another model"])
def test_a_damaged_file_is_a_warning_and_replaced(tmp_path: Path, damage: str) -> None:
    evaluation, warnings = Evaluation(), []
    cache = ScoreCache(tmp_path, warn=warnings.append)
    cache.get_or_compute(("mine",), evaluation)
    (mine,) = tmp_path.iterdir()
    whole = json.loads(mine.read_text())
    (row,) = whole["scores"]
    texts = {
        "truncated": mine.read_text()[:60],
        "empty": "",
        "no object": "[]",
        "a number": json.dumps(whole | {"scores": [row | {"num_images": "many"}]}),
        "no seeds": json.dumps(whole | {"scores": [row | {"values": []}]}),
        "of another model": json.dumps(whole | {"key": "theirs"}),
    }
    mine.write_text(texts[damage])
    (score,) = cache.get_or_compute(("mine",), evaluation)
    assert (evaluation.calls, score.values, cache.hits) == (2, [0.25, 0.25], 0)
    (warning,) = warnings
    assert warning.startswith(f"{mine} cannot be used (")
    assert warning.endswith("its scores are computed again")
    assert cache.get_or_compute(("mine",), evaluation) == [score]
