"""A run that is killed or stopped, again and again, ends with the same bits as an uninterrupted run."""

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from checkpoints import metadata, newest, tensors
from forks import start
from processes import last_record, records, steps_taken, wrong_use

STEPS = 300
EVALUATE = 20
WORKERS = (0, 1, 2, 4)


WITHOUT_LABELS = {
    "data.source": "digits",
    "data.root": "None",
    "model.image-size": 8,
    "model.patch-size": 2,
    "model.width": 16,
    "train.batch-size": 16,
    "data.limit": 200,  # probes take longer than all else
    "train.evaluate": f"{STEPS}steps",
}
"""Turns a recipe for other images into one for the digits."""

SMALL = {
    "fashion-mnist-dino": {
        "train.ema": "None",  # the teacher is its average
        "objective.prototypes": 32,
        "objective.hidden": 16,
        "objective.bottleneck": 8,
        "objective.crops.num-local": 1,
        "objective.crops.local-size": 4,
        "objective.gram-weight": 2,
        "objective.gram-start": 0.2,
    }
}
"""Makes a recipe quick."""


TAUGHT = "fashion-mnist-distilled"
"""A recipe that needs a teacher."""


def recipe(name: str, *, teacher: Path | None = None) -> list[str]:
    """A tiny run with all kinds of state: momentum, moving average, dropout, augmentation, evaluations.

    `name` is that of an optimiser, or of a recipe.
    """
    labelled = "-" not in name
    settings = {
        "seed": 7,
        "model.depth": 1,
        "model.dropout": 0.1,
        "optim.name": name if labelled else "adamw",
        "train.ema": 0.9,
        "train.batch-size": 32,  # small, as a run is stopped between its steps
        "train.steps": STEPS,
        "train.log": "5steps",
        "train.evaluate": f"{EVALUATE}steps",
        "checkpoint.every": "7steps",
        **({} if labelled else WITHOUT_LABELS),
        **SMALL.get(name, {}),
        **({} if teacher is None else {"objective.teacher": teacher}),
    }
    return [
        "train",
        "digits" if labelled else name,
        *(word for key, value in settings.items() for word in (f"--{key}", str(value))),
    ]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of the uninterrupted run, by optimiser."""
    runs: dict[str, Path] = {}

    def run(optimiser: str) -> Path:
        if optimiser not in runs:
            folder = tmp_path_factory.mktemp(optimiser)
            teacher = run("adamw") if optimiser == TAUGHT else None
            process = start(*recipe(optimiser, teacher=teacher), "--out", "run", cwd=folder)
            assert f"step {STEPS}/{STEPS}" in process.ended()
            runs[optimiser] = folder / "run"
        return runs[optimiser]

    return run


def assert_same_run(run: Path, reference: Path) -> None:
    """Compares weights, configuration and checkpoints bit for bit."""
    assert (run / "model.safetensors").read_bytes() == (reference / "model.safetensors").read_bytes()
    assert (run / "config.json").read_bytes() == (reference / "config.json").read_bytes()
    ours, theirs = newest(run), newest(reference)
    assert ours.name == theirs.name == f"step_{STEPS:09d}"
    assert metadata(ours) == metadata(theirs)
    assert contents(ours) == contents(theirs)


def contents(checkpoint: Path) -> dict[str, bytes]:
    """Every tensor's bytes."""
    return {name: tensor.numpy().tobytes() for name, tensor in tensors(checkpoint).items()}


def in_a_step(run: Path, target: int) -> bool:
    return steps_taken(run) >= target


def in_a_save(run: Path, target: int) -> bool:
    return in_a_step(run, target) and any((run / "checkpoints").glob(".step_*.tmp"))


def in_an_evaluation(run: Path, target: int) -> bool:
    """The step before the evaluation is recorded, its metrics are not."""
    if not in_a_step(run, target):
        return False
    last = last_record(run)
    return last["step"] % EVALUATE == 0 and "train/loss" in last


SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 138, signal.SIGHUP: 129, signal.SIGQUIT: 131}
"""Signals that stop a run, with its exit code."""
MOMENTS = (in_a_step, in_a_save, in_an_evaluation)
SELF_SUPERVISED = ("fashion-mnist-masked-patch", "fashion-mnist-mae", "fashion-mnist-dino")


@pytest.mark.parametrize(
    ("name", "kills"),
    [
        ("adamw", 4),
        pytest.param("muon", 24, marks=pytest.mark.slow),
        *(pytest.param(name, 2, marks=pytest.mark.slow) for name in SELF_SUPERVISED),
        pytest.param(TAUGHT, 2, marks=pytest.mark.slow),
    ],
)
def test_killed_at_random_moments(tmp_path, uninterrupted, name, kills):
    """Thirty-six kills in all, in steps, saves and evaluations, with 0, 1, 2 and 4 reading processes."""
    moments = random.Random(kills)
    run = tmp_path / "run"
    killed = []
    command = [*recipe(name, teacher=uninterrupted("adamw") if name == TAUGHT else None), "--out", "run"]
    # a busy machine misses some evaluations, which are short: several must be left after the last target
    for kill, target in enumerate(sorted(moments.sample(range(5, STEPS - 6 * EVALUATE), kills))):
        # beyond the recorded steps, so that each process trains before it dies
        target = max(target, steps_taken(run) + 1)
        reached = MOMENTS[kill % len(MOMENTS)]
        process = start(*command, "--data.workers", str(WORKERS[kill % len(WORKERS)]), cwd=tmp_path)
        process.wait_until(lambda target=target, reached=reached: reached(run, target))
        time.sleep(moments.uniform(0, 0.05) if reached is in_a_step else 0)
        process.kill()
        process.ended()
        assert process.returncode == -signal.SIGKILL, process.errors.read_text()
        saving = any((run / "checkpoints").glob(".step_*.tmp"))
        killed.append((steps_taken(run), "save" if saving else "evaluation" if in_an_evaluation(run, 1) else "step"))
        command = ["train", "--resume", "run"]
    print(f"{name}: killed {killed}")
    if kills > len(WORKERS) * len(MOMENTS):
        assert {what for _, what in killed} == {"step", "save", "evaluation"}
    last = start(*command, "--data.workers", "3", cwd=tmp_path)
    assert last.ended()
    assert last.returncode == 0
    assert_same_run(run, uninterrupted(name))
    assert records(run) == records(uninterrupted(name))


@pytest.mark.parametrize(
    ("signum", "code"),
    [
        pytest.param(*one, marks=[] if one[0] in (signal.SIGINT, signal.SIGTERM) else pytest.mark.slow)
        for one in SIGNALS.items()
    ],
)
def test_a_signal_stops_the_run(tmp_path, uninterrupted, signum, code):
    run = tmp_path / "run"
    process = start(*recipe("adamw"), "--out", "run", "--data.workers", "2", cwd=tmp_path)
    process.wait_until(lambda: steps_taken(run) >= 43)
    # to reading processes too, as a terminal and `timeout` do; twice, as the latter does
    os.killpg(process.pid, signum)
    os.killpg(process.pid, signum)
    errors = process.ended()
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert errors.endswith(f"stopped by {signum.name}; resume it with: vitral train --resume run\n")
    stopped_at = steps_taken(run)
    assert 43 <= stopped_at < STEPS
    assert (run / "checkpoints" / f"step_{stopped_at:09d}").exists()
    start("train", "--resume", "run", "--data.workers", "1", cwd=tmp_path).ended()
    assert_same_run(run, uninterrupted("adamw"))


def test_a_second_trainer_is_refused(tmp_path):
    run = tmp_path / "run"
    process = start(*recipe("sgd"), "--out", "run", "--train.steps", "100000", cwd=tmp_path)
    process.wait_until(lambda: steps_taken(run) >= 5)
    assert wrong_use("train", "--resume", "run", cwd=tmp_path) == "run is being trained by another process"
    os.kill(process.pid, signal.SIGTERM)
    process.ended()
    assert process.returncode == 143
