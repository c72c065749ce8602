"""Checkpoints: complete or absent, the newest few are kept, damaged ones are skipped with a message."""

import errno
import json
import random
import shutil
import threading
from pathlib import Path

import pytest
import torch

import vitral.files
from vitral.train.checkpointing.checkpoint import CheckpointConfig, Checkpoints, Saved

SHARD = "shard-00001-model-00001-of-00001.safetensors"


def weight(step: int) -> torch.Tensor:
    return torch.full((300,), float(step))


def save(checkpoints: Checkpoints, step: int) -> None:
    checkpoints.save({"model.weight": weight(step), "optimiser.step": torch.tensor(0.5)}, {"step": step}, step=step)
    checkpoints.wait()


def saved(folder: Path, *steps: int, keep: int = 9) -> Checkpoints:
    checkpoints = Checkpoints(folder / "checkpoints", keep=keep)
    for step in steps:
        save(checkpoints, step)
    return checkpoints


def steps_of(checkpoints: Checkpoints) -> list[int]:
    return [int(path.name.removeprefix("step_")) for path in checkpoints.paths()]


def holds(found: Saved, step: int) -> bool:
    """Whether metadata and tensors of a checkpoint are of that step."""
    tensors = {"model.weight": torch.zeros(300), "optimiser.step": torch.zeros(())}
    found.load_into(tensors)
    return found.metadata["step"] == step and torch.equal(tensors["model.weight"], weight(step))


def garbage(path: Path) -> None:
    (path / SHARD).write_bytes(random.Random(0).randbytes(1000))


def truncated(path: Path) -> None:
    file = path / SHARD
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flipped(path: Path) -> None:
    """One bit in the middle of the weights."""
    content = bytearray((path / SHARD).read_bytes())
    content[content.index(weight(30).numpy().tobytes()) + 600] ^= 1
    (path / SHARD).write_bytes(content)


def empty(path: Path) -> None:
    (path / SHARD).write_bytes(b"")


def gone(path: Path) -> None:
    (path / SHARD).unlink()


def without_metadata(path: Path) -> None:
    (path / "state.json").unlink()


def other_metadata(path: Path) -> None:
    """Well-formed, but not what was saved."""
    state = json.loads((path / "state.json").read_text())
    state["metadata"]["step"] = 31
    (path / "state.json").write_text(json.dumps(state))


def of_something_else(path: Path) -> None:
    (path / "state.json").write_text("[1, 2, 3]")


def emptied(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


DAMAGE = [garbage, truncated, flipped, empty, gone, without_metadata, other_metadata, of_something_else, emptied]


def test_the_newest_is_loaded(tmp_path):
    found, notes = saved(tmp_path, 10, 20, 30).newest()
    assert holds(found, 30)
    assert found.sizes == {"model.weight": ((300,), torch.float32), "optimiser.step": ((), torch.float32)}
    assert notes == []


def test_a_checkpoint_of_version_0_1_still_loads(tmp_path):
    """Its metadata was called facts."""
    checkpoints = saved(tmp_path, 10)
    path = checkpoints.paths()[-1] / "state.json"
    state = json.loads(path.read_text())
    path.write_text(json.dumps({"facts": state.pop("metadata"), **state}))
    assert holds(checkpoints.newest()[0], 10)


def test_only_the_newest_are_kept(tmp_path):
    assert steps_of(saved(tmp_path, *range(5, 100, 5), keep=3)) == [85, 90, 95]


def test_the_same_step_may_be_saved_again(tmp_path):
    assert steps_of(saved(tmp_path, 5, 10, 10, keep=2)) == [5, 10]


def test_later_changes_of_the_tensors_are_not_saved(tmp_path):
    """Training continues while the files are written."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)
    moving = weight(3)
    checkpoints.save({"model.weight": moving, "optimiser.step": torch.zeros(())}, {"step": 3}, step=3)
    moving.zero_()
    checkpoints.wait()
    assert holds(checkpoints.newest()[0], 3)


def test_a_damaged_checkpoint_is_replaced_at_the_same_step(tmp_path):
    checkpoints = saved(tmp_path, 10, 20)
    truncated(checkpoints.paths()[-1])
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)
    assert holds(checkpoints.newest()[0], 10)
    save(checkpoints, 20)
    assert holds(checkpoints.newest()[0], 20)
    assert steps_of(checkpoints) == [20]


def test_steps_sort_as_numbers(tmp_path):
    assert steps_of(saved(tmp_path, 9, 10, 100, 1_000_000, keep=4)) == [9, 10, 100, 1_000_000]


def test_a_crash_while_saving_keeps_the_one_before(tmp_path, monkeypatch):
    checkpoints = saved(tmp_path, 10, keep=1)

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(vitral.files.os, "fsync", fail)
    with pytest.raises(OSError, match="No space left on device") as caught:
        save(checkpoints, 20)
    assert caught.value.filename.startswith(str(tmp_path / "checkpoints"))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_000000010"]
    assert holds(checkpoints.newest()[0], 10)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_one_is_skipped_with_a_message(tmp_path, damage):
    checkpoints = saved(tmp_path, 10, 20, 30)
    damage(checkpoints.paths()[-1])
    found, notes = checkpoints.newest()
    assert holds(found, 20)
    assert len(notes) == 1
    assert notes[0].startswith(f"{tmp_path}/checkpoints/step_000000030 is damaged (")
    assert notes[0].endswith("); using the checkpoint before it")
    assert "\n" not in notes[0]


def test_two_damaged_ones(tmp_path):
    checkpoints = saved(tmp_path, 10, 20, 30)
    for path in checkpoints.paths()[1:]:
        truncated(path)
    found, notes = checkpoints.newest()
    assert holds(found, 10)
    assert len(notes) == 2


def test_only_damaged_ones_raise(tmp_path):
    checkpoints = saved(tmp_path, 10, 20)
    for path in checkpoints.paths():
        truncated(path)
    with pytest.raises(ValueError, match=r"^no checkpoint in .* can be read: remove the folder"):
        checkpoints.newest()
    assert steps_of(checkpoints) == [10, 20]


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_one_never_outlives_a_good_one(tmp_path, keep):
    """The run resumes at 20 and saves 25, which must not be removed in favour of 30, which is damaged."""
    checkpoints = saved(tmp_path, 20, 30)
    truncated(checkpoints.paths()[-1])
    checkpoints.keep = keep
    save(checkpoints, 25)
    assert steps_of(checkpoints) == [20, 25][-keep:]
    assert holds(checkpoints.newest()[0], 25)


@pytest.mark.parametrize("seed", range(100))
def test_all_damage_is_detected(tmp_path, seed):
    """Truncated, or filled with noise or zeros anywhere: either rejected, or read unchanged."""
    rng = random.Random(seed)
    checkpoints = saved(tmp_path, 10, 30)
    path = rng.choice(sorted(checkpoints.paths()[-1].iterdir()))
    content = bytearray(path.read_bytes())
    start = rng.randrange(len(content))
    end = min(start + rng.choice([1, 8, 400]), len(content))
    content[start:end] = rng.choice([b"", rng.randbytes(end - start), bytes(end - start)])
    path.write_bytes(content)
    found, _ = checkpoints.newest()
    assert found.metadata["step"] in (10, 30)
    assert holds(found, found.metadata["step"])


def test_values_out_of_range():
    with pytest.raises(ValueError, match=r"checkpoint\.keep must be at least 1, not 0"):
        CheckpointConfig(keep=0)
    with pytest.raises(ValueError, match="'often' is not a duration"):
        CheckpointConfig(every="often")


def test_nothing_is_left_in_the_background_after_waiting(tmp_path: Path) -> None:
    """Not even a thread that only frees its tensors: Python's exit meanwhile would abort the process."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)
    for step in range(50):
        save(checkpoints, step)
        assert "checkpoint" not in {thread.name for thread in threading.enumerate()}
