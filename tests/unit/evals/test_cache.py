"""Features on disk: read again for the same key, and never for another."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from vitral.evals.cache import FeatureCache
from vitral.evals.features import FeatureSet


class Model:
    """Counts how often features are computed."""

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


def load_or_compute(
    folder: Path | None, key: tuple[str, ...], compute: Callable[[], FeatureSet], *, warn: Callable[[str], None]
) -> FeatureSet:
    cache = FeatureCache(folder, warn=warn)
    features = cache.load(key)
    if features is None:
        cache.save(key, features := compute())
    return features


def test_a_key_is_computed_once(tmp_path: Path) -> None:
    model, warnings = Model(), []
    first, second = (load_or_compute(tmp_path / "features", ("a", "b"), model, warn=warnings.append) for _ in range(2))
    assert model.calls == 1
    assert torch.equal(first.features, second.features)
    assert (second.readable.tolist(), second.unreadable) == ([True, False, True], ("b.jpg is broken",))
    load_or_compute(tmp_path / "features", ("a", "c"), model, warn=warnings.append)
    assert (model.calls, warnings) == (2, [])
    load_or_compute(None, ("a", "b"), model, warn=warnings.append)
    assert model.calls == 3


def test_files_with_the_first_name_of_a_key_are_read(tmp_path: Path) -> None:
    """`unreadable` was `broken` once."""
    load_or_compute(tmp_path, ("a",), Model(), warn=pytest.fail)
    (path,) = tmp_path.iterdir()
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in FeatureSet.COLUMNS}
    assert json.loads(metadata["unreadable"]) == ["b.jpg is broken"]
    metadata["broken"] = metadata.pop("unreadable")
    save_file(tensors, path, metadata)
    features = FeatureCache(tmp_path, warn=pytest.fail).load(("a",))
    assert features is not None
    assert features.unreadable == ("b.jpg is broken",)


def test_a_file_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "features").touch()
    warnings: list[str] = []
    assert load_or_compute(tmp_path / "features", ("a",), Model(), warn=warnings.append).readable.any()
    (warning,) = warnings
    assert "cannot be written (File exists)" in warning


@pytest.mark.parametrize("damage", ["truncated", "empty", "one bit", "of another model"])
def test_a_damaged_file_is_a_warning_and_replaced(tmp_path: Path, damage: str) -> None:
    model, warnings = Model(), []
    load_or_compute(tmp_path, ("mine",), model, warn=warnings.append)
    (mine,) = tmp_path.iterdir()
    if damage == "of another model":
        load_or_compute(tmp_path, ("theirs",), model, warn=warnings.append)
        (theirs,) = set(tmp_path.iterdir()) - {mine}
        shutil.copy(theirs, mine)
    elif damage == "one bit":
        content = bytearray(mine.read_bytes())
        content[-1] ^= 1
        mine.write_bytes(content)
    else:
        mine.write_bytes(mine.read_bytes()[: 60 if damage == "truncated" else 0])
    calls = model.calls
    features = load_or_compute(tmp_path, ("mine",), model, warn=warnings.append)
    assert model.calls == calls + 1
    assert features.features[0, 0] == model.calls
    (warning,) = warnings
    assert warning.startswith(str(mine))
    assert warning.endswith("its features are computed again")
    load_or_compute(tmp_path, ("mine",), model, warn=warnings.append)
    assert (model.calls, len(warnings)) == (calls + 1, 1)
