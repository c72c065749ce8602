"""A run that is killed or asked to stop, again and again, ends in the very bits of the run that was left alone."""

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from checkpoints import facts, newest, tensors
from processes import SECONDS, records, start, steps_taken, vitral, wait_until, wrong_use

STEPS = 300
WORKERS = (0, 1, 2, 4)


def recipe(optimiser: str) -> list[str]:
    """A tiny run with everything that has a state: momentum, average, dropout, augmentation, evaluations."""
    settings = {
        "seed": 7,
        "model.depth": 1,
        "model.dropout": 0.1,
        "optim.name": optimiser,
        "train.ema": 0.9,
        "train.steps": STEPS,
        "train.log": "5steps",
        "train.evaluate": "70steps",
        "checkpoint.every": "20steps",
    }
    return ["train", "digits", *(word for key, value in settings.items() for word in (f"--{key}", str(value)))]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of the run that nobody disturbed, by optimiser."""
    runs: dict[str, Path] = {}

    def run(optimiser: str) -> Path:
        if optimiser not in runs:
            folder = tmp_path_factory.mktemp(optimiser)
            vitral(*recipe(optimiser), "--out", "run", cwd=folder)
            runs[optimiser] = folder / "run"
        return runs[optimiser]

    return run


def assert_same_run(run: Path, reference: Path) -> None:
    """Compares weights, configuration and checkpoints bit for bit."""
    assert (run / "model.safetensors").read_bytes() == (reference / "model.safetensors").read_bytes()
    assert (run / "config.json").read_bytes() == (reference / "config.json").read_bytes()
    ours, theirs = newest(run), newest(reference)
    assert ours.name == theirs.name == f"step_{STEPS:09d}"
    assert facts(ours) == facts(theirs)
    assert contents(ours) == contents(theirs)


def contents(checkpoint: Path) -> dict[str, bytes]:
    """Every tensor's bytes."""
    return {name: tensor.numpy().tobytes() for name, tensor in tensors(checkpoint).items()}


@pytest.mark.parametrize(("optimiser", "kills"), [("adamw", 4), pytest.param("muon", 20, marks=pytest.mark.slow)])
def test_killed_at_random_moments(tmp_path, unbroken, optimiser, kills):
    moments = random.Random(kills)
    run = tmp_path / "run"
    killed_at = []
    command = [*recipe(optimiser), "--out", "run"]
    for kill, moment in enumerate(sorted(moments.sample(range(5, STEPS + 1), kills))):
        # beyond what the record says already, so that each process trains before it dies
        target = min(max(moment, steps_taken(run) + 1), STEPS)
        process = start(*command, "--data.workers", str(WORKERS[kill % len(WORKERS)]), cwd=tmp_path)
        wait_until(lambda target=target: steps_taken(run) >= target, process)
        time.sleep(moments.uniform(0, 0.05))
        process.kill()
        process.communicate(timeout=SECONDS)
        assert process.returncode == -signal.SIGKILL
        killed_at.append(steps_taken(run))
        command = ["train", "--resume", "run"]
    print(f"{optimiser}: killed after steps {killed_at}")
    vitral(*command, "--data.workers", "3", cwd=tmp_path)
    assert_same_run(run, unbroken(optimiser))
    assert records(run) == records(unbroken(optimiser))


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_asked_to_stop(tmp_path, unbroken, signum, code):
    run = tmp_path / "run"
    process = start(*recipe("adamw"), "--out", "run", "--data.workers", "2", cwd=tmp_path)
    wait_until(lambda: steps_taken(run) >= 43, process)
    # to reading processes too, as a terminal and `timeout` do; twice, as the latter does
    os.killpg(process.pid, signum)
    os.killpg(process.pid, signum)
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert errors.endswith(f"stopped by {signum.name}; go on with: vitral train --resume run\n")
    stopped_at = steps_taken(run)
    assert 43 <= stopped_at < STEPS
    assert (run / "checkpoints" / f"step_{stopped_at:09d}").exists()
    vitral("train", "--resume", "run", "--data.workers", "1", cwd=tmp_path)
    assert_same_run(run, unbroken("adamw"))


def test_a_second_trainer_is_refused(tmp_path):
    run = tmp_path / "run"
    process = start(*recipe("sgd"), "--out", "run", "--train.steps", "100000", cwd=tmp_path)
    wait_until(lambda: steps_taken(run) >= 5, process)
    assert wrong_use("train", "--resume", "run", cwd=tmp_path) == "run is being trained by another process"
    process.terminate()
    process.communicate(timeout=SECONDS)
    assert process.returncode == 143
