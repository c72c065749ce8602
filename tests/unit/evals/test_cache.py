"""FeatureSet on disk: found again, and never mistaken for others."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vitral.evals.cache import Cache
from vitral.evals.features import FeatureSet


class Model:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> FeatureSet:
        self.calls += 1
        return FeatureSet(
            features=torch.full((2, 3), float(self.calls)),
            labels=torch.tensor([0, 1]),
            readable=torch.tensor([True, False, True]),
            unreadable=("b.jpg is broken",),
        )


def cached(
    folder: Path | None, key: tuple[str, ...], compute: Callable[[], FeatureSet], *, say: Callable[[str], None]
) -> FeatureSet:
    """What was kept, or else is computed and kept."""
    cache = Cache(folder, say=say)
    found = cache.find(key)
    if found is None:
        cache.keep(key, found := compute())
    return found


def test_the_same_key_computes_once(tmp_path: Path) -> None:
    model, said = Model(), []
    first, second = (cached(tmp_path / "features", ("a", "b"), model, say=said.append) for _ in range(2))
    assert model.calls == 1
    assert torch.equal(first.features, second.features)
    assert (second.readable.tolist(), second.unreadable) == ([True, False, True], ("b.jpg is broken",))
    cached(tmp_path / "features", ("a", "c"), model, say=said.append)
    assert (model.calls, said) == (2, [])
    cached(None, ("a", "b"), model, say=said.append)
    assert model.calls == 3


def test_what_cannot_be_written_costs_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "features").touch()
    said: list[str] = []
    assert cached(tmp_path / "features", ("a",), Model(), say=said.append).readable.any()
    assert len(said) == 1
    assert "cannot be written (File exists): what it would hold is not kept" in said[0]


@pytest.mark.parametrize("damage", ["truncated", "empty", "one bit", "of another model"])
def test_a_file_that_cannot_be_used_is_told_of_and_made_anew(tmp_path: Path, damage: str) -> None:
    model, said = Model(), []
    cached(tmp_path, ("mine",), model, say=said.append)
    (mine,) = tmp_path.iterdir()
    if damage == "of another model":
        cached(tmp_path, ("theirs",), model, say=said.append)
        (theirs,) = set(tmp_path.iterdir()) - {mine}
        shutil.copy(theirs, mine)
    elif damage == "one bit":
        read = bytearray(mine.read_bytes())
        read[-1] ^= 1
        mine.write_bytes(read)
    else:
        mine.write_bytes(mine.read_bytes()[: 60 if damage == "truncated" else 0])
    calls = model.calls
    found = cached(tmp_path, ("mine",), model, say=said.append)
    assert model.calls == calls + 1
    assert found.features[0, 0] == model.calls
    assert len(said) == 1
    assert said[0].startswith(str(mine))
    assert said[0].endswith("its features are computed again")
    cached(tmp_path, ("mine",), model, say=said.append)
    assert (model.calls, len(said)) == (calls + 1, 1)
