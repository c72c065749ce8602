"""Checkpoints: whole or not there, the newest few kept, damaged ones passed over and said."""

import errno
import random
from pathlib import Path

import pytest
import torch

import vitral.files
from vitral.train.checkpoint import CheckpointConfig, Checkpoints


def state(step: int) -> dict:
    return {"step": step, "model": {"weight": torch.full((300,), float(step))}}


def saved(folder: Path, *steps: int, keep: int = 9) -> Checkpoints:
    checkpoints = Checkpoints(folder / "checkpoints", keep=keep)
    for step in steps:
        checkpoints.save(state(step), step=step)
    return checkpoints


def steps_of(checkpoints: Checkpoints) -> list[int]:
    return [int(path.stem.removeprefix("step_")) for path in checkpoints.paths()]


def garbage(path: Path) -> None:
    path.write_bytes(random.Random(0).randbytes(1000))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    """One bit in the middle of the weights."""
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((300,), 30.0).numpy().tobytes()) + 600] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def of_something_else(path: Path) -> None:
    torch.save([1, 2, 3], path)


def code(path: Path) -> None:
    """A pickle that would run code, were it loaded."""
    torch.save(saved, path)


DAMAGE = [garbage, truncated, flipped, empty, of_something_else, code]


def test_the_newest_comes_back(tmp_path):
    found, notes = saved(tmp_path, 10, 20, 30).newest()
    assert found["step"] == 30
    assert torch.equal(found["model"]["weight"], state(30)["model"]["weight"])
    assert notes == []


def test_only_the_newest_stay(tmp_path):
    assert steps_of(saved(tmp_path, *range(5, 100, 5), keep=3)) == [85, 90, 95]


def test_the_same_step_may_be_saved_again(tmp_path):
    assert steps_of(saved(tmp_path, 5, 10, 10, keep=2)) == [5, 10]


def test_steps_sort_as_numbers(tmp_path):
    assert steps_of(saved(tmp_path, 9, 10, 100, 1_000_000, keep=4)) == [9, 10, 100, 1_000_000]


def test_a_crash_while_saving_leaves_the_one_before(tmp_path, monkeypatch):
    checkpoints = saved(tmp_path, 10, keep=1)

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(vitral.files.os, "fsync", fail)
    with pytest.raises(OSError, match="No space left on device") as caught:
        checkpoints.save(state(20), step=20)
    assert caught.value.filename == str(tmp_path / "checkpoints" / "step_000000020.pt")
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_000000010.pt"]
    assert checkpoints.newest()[0]["step"] == 10


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_one_is_passed_over_and_said(tmp_path, damage):
    checkpoints = saved(tmp_path, 10, 20, 30)
    damage(checkpoints.paths()[-1])
    found, notes = checkpoints.newest()
    assert found["step"] == 20
    assert len(notes) == 1
    assert notes[0].startswith(f"{tmp_path}/checkpoints/step_000000030.pt is damaged (")
    assert notes[0].endswith("); going back to the checkpoint before it")
    assert "\n" not in notes[0]


def test_two_damaged_ones(tmp_path):
    checkpoints = saved(tmp_path, 10, 20, 30)
    for path in checkpoints.paths()[1:]:
        truncated(path)
    found, notes = checkpoints.newest()
    assert found["step"] == 10
    assert len(notes) == 2


def test_none_that_can_be_read(tmp_path):
    checkpoints = saved(tmp_path, 10, 20)
    for path in checkpoints.paths():
        truncated(path)
    with pytest.raises(ValueError, match=r"^no checkpoint in .* can be read: remove the folder"):
        checkpoints.newest()
    assert steps_of(checkpoints) == [10, 20]


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_one_never_outlives_a_good_one(tmp_path, keep):
    """Having gone back to 20, the run saves 25: 30 is damaged, and must not push it out."""
    checkpoints = saved(tmp_path, 20, 30)
    truncated(checkpoints.paths()[-1])
    checkpoints.keep = keep
    checkpoints.save(state(25), step=25)
    assert steps_of(checkpoints) == [20, 25][-keep:]
    assert checkpoints.newest()[0]["step"] == 25


@pytest.mark.parametrize("seed", range(100))
def test_no_damage_goes_unnoticed(tmp_path, seed):
    """Cut short, filled with noise or with zeros anywhere: either refused, or read as it was."""
    rng = random.Random(seed)
    checkpoints = saved(tmp_path, 10, 30)
    path = checkpoints.paths()[-1]
    content = bytearray(path.read_bytes())
    start = rng.randrange(len(content))
    end = min(start + rng.choice([1, 8, 400]), len(content))
    content[start:end] = rng.choice([b"", rng.randbytes(end - start), bytes(end - start)])
    path.write_bytes(content)
    found, _ = checkpoints.newest()
    assert found["step"] in (10, 30)
    assert torch.equal(found["model"]["weight"], state(found["step"])["model"]["weight"])


def test_values_out_of_range():
    with pytest.raises(ValueError, match=r"checkpoint\.keep must be at least 1, not 0"):
        CheckpointConfig(keep=0)
    with pytest.raises(ValueError, match="'often' is not a duration"):
        CheckpointConfig(every="often")
