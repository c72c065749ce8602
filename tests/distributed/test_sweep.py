"""A sweep on two processes: the main process decides, both train each run; also after they were killed."""

import json
import os
import re
import signal
from pathlib import Path

import pytest

from forks import pair

SWEEP = (
    *("sweep", "digits", "--out", "sweep", "--data.val-fraction", "0.1", "--seeds", "3"),
    *("--search", "optim.lr=1e-4:1e-1:log", "--train.steps", "60", "--model.depth", "1", "--train.track", "none"),
    *("--train.log", "1steps", "--checkpoint.every", "4steps"),
)


@pytest.mark.slow
def test_two_processes_sweep_as_one(tmp_path: Path) -> None:
    """Killed in its second trial, resumed with one more trial, and the best retrained."""
    killed = pair(*SWEEP, "--trials", "2", cwd=tmp_path)
    checkpoints = tmp_path / "sweep" / "001-seed3" / "checkpoints"
    killed[0].wait_until(lambda: any(checkpoints.glob("step_*")))  # they are written beside the training
    # neither may see that the other is gone, which would be an error of its own
    for signum in (signal.SIGSTOP, signal.SIGKILL):
        for process in killed:
            os.kill(process.pid, signum)
    for process in killed:
        process.ended()
    assert [process.returncode for process in killed] == [-signal.SIGKILL] * 2
    processes = pair(*SWEEP, "--trials", "3", "--retrain", "5", cwd=tmp_path)
    stderr = "".join(process.ended() for process in processes)
    assert [process.returncode for process in processes] == [0, 0], stderr
    assert stderr.count("1 of 3 trials are finished (--trials was 2 before)") == 1, "one process prints"
    assert stderr.count("trial 002 (3 of 3)") == 1
    first_steps = re.findall(r"steps (\d+) to 60 of 128 images in all, 64 on each of 2 devices", stderr)
    assert len(first_steps) == 3
    assert int(first_steps[0]) in range(4, 60, 4), "the interrupted run resumes from one of its checkpoints"
    assert first_steps[1:] == ["0", "0"]
    trials = json.loads((tmp_path / "sweep" / "results.json").read_text())["trials"]
    assert len({row["settings"]["optim.lr"] for row in trials}) == 3
    assert [len(row["values"]) for row in trials] == [1, 1, 1]
    assert json.loads((tmp_path / "sweep" / "retrained.json").read_text())["seeds"] == [5]


@pytest.mark.slow
def test_a_trial_that_diverges_on_two_processes_ends_no_sweep(tmp_path: Path) -> None:
    words = [word.replace("--search", "--grid").replace("1e-4:1e-1:log", "1e30,0.01") for word in SWEEP]
    processes = pair(*words, cwd=tmp_path)
    stderr = "".join(process.ended() for process in processes)
    assert [process.returncode for process in processes] == [0, 0], stderr
    first, second = json.loads((tmp_path / "sweep" / "results.json").read_text())["trials"]
    assert "the loss became nan at step" in first["failure"]
    assert second["values"]


def test_an_error_is_printed_once(tmp_path: Path) -> None:
    processes = pair(*SWEEP, "--metric", "val/top3", cwd=tmp_path)
    stderr = "".join(process.ended() for process in processes)
    assert [process.returncode for process in processes] == [2, 2], stderr
    assert stderr.count("vitral: these runs do not have the metric val/top3") == 1
    assert not (tmp_path / "sweep").exists()
