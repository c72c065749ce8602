"""Two processes equal one, their number may change when a run resumes, and if one dies or hangs, all end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from distributed.assignments import LOGITS, READABLE, assignments
from distributed.runs import RUNS
from forks import pair, start
from processes import SECONDS, SOURCES, records, steps_taken, wait_until

TRAIN = Path(__file__).with_name("train_tiny.py")
QUICK = ("ddp-adamw", "fsdp", "fsdp-dino", "ddp-bfloat16", "fsdp-bfloat16")
"""Runs of `make test`; the others are slow."""
PROBES = {"test/knn": 1.5, "test/linear": 4.5}
"""Of 359 images, those whose class may change where features differ in their last digits. The linear probe chooses its
strength by the images it holds out, so that one of these may take another.
"""

STEPS = 100
LONG = [
    *("train", "digits", "--out", "run", "--or-resume", "--seed", "3", "--optim.name", "sgd", "--optim.lr", "0.1"),
    *("--model.depth", "1", "--train.steps", str(STEPS), "--train.ema", "0.9"),
    *("--train.log", "1steps", "--train.evaluate", "50steps", "--checkpoint.every", "20steps"),
]


def torchrun(
    *arguments: str | Path, cwd: Path, stdout: int = subprocess.DEVNULL, **variables: str
) -> subprocess.Popen[str]:
    """Starts two processes of a module or script, with variables of the environment."""
    tests = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": f"{SOURCES}:{tests}", "OMP_NUM_THREADS": "1", "COLUMNS": "400"}
    environment |= variables
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *map(str, arguments)],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str]) -> str:
    """Standard error of a finished process."""
    return process.communicate(timeout=SECONDS)[1]


@pytest.fixture(scope="module")
def pairs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the selected runs on two processes, by name, and in `alone` the same runs on one process."""
    users = (test_two_processes_equal_one, test_gradients_exchanged_in_bfloat16_are_rounded)
    tests = [item for item in request.session.items if getattr(item, "function", None) in users]
    chosen = {test.callspec.params["name"] for test in tests}
    names = [name for name in RUNS if name in chosen or name == "ddp-adamw"]  # the teacher of others
    folder = tmp_path_factory.mktemp("pairs")
    processes = pair(folder, folder, *names, cwd=folder, script=TRAIN)
    stderr = "".join(process.ended() for process in processes)
    assert [process.returncode for process in processes] == [0, 0], stderr
    assert "64 images in all, 32 on each of 2 devices" in stderr
    assert stderr.count("step 12/12") == len(names), "only one process prints"
    (folder / "alone").mkdir()
    alone = start(folder / "alone", folder, *names, cwd=folder, script=TRAIN)
    stderr = alone.ended()
    assert alone.returncode == 0, stderr
    return folder


ROUNDED = ("ddp-bfloat16", "fsdp-bfloat16")


def each(*names: str) -> list[Any]:
    """Names of runs as parameters, those that are not quick as slow ones."""
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", each(*ROUNDED))
def test_gradients_exchanged_in_bfloat16_are_rounded(pairs, name):
    two, one = (load_file(path / "model.safetensors") for path in (pairs / name, pairs / "alone" / name))
    worst = max(float((two[key] - value).abs().max()) for key, value in one.items())
    assert 1e-5 < worst < 0.02, "the exchange in float32 differs by less than 1e-5"
    assert max(float((value - two[key]).norm() / value.norm().clip(1e-2)) for key, value in one.items()) < 0.02


@pytest.mark.parametrize("name", each(*(name for name in RUNS if name not in ROUNDED)))
def test_two_processes_equal_one(pairs, name):
    two, one = pairs / name, pairs / "alone" / name
    for ours, theirs in zip(records(two), records(one), strict=True):
        for key in theirs.keys() & PROBES.keys():
            assert ours.pop(key) == pytest.approx(theirs.pop(key), abs=PROBES[key] / 359), key
        # a norm is as large as there are weights, and has float32's digits, not more
        norm = {key: theirs.pop(key) for key in ("train/gradient_norm",) if key in theirs}
        assert {key: ours.pop(key) for key in norm} == pytest.approx(norm, rel=1e-5, abs=1e-5), ours["step"]
        assert ours == pytest.approx(theirs, abs=1e-5), ours["step"]
    ours, theirs = (load_file(path / "model.safetensors") for path in (two, one))
    for key, value in theirs.items():
        # keys' biases have no gradient but rounding, which Adam makes as large as any
        third = len(value) // 3
        rows = slice(None) if "qkv.bias" not in key else [*range(third), *range(2 * third, 3 * third)]
        torch.testing.assert_close(ours[key][rows], value[rows], rtol=0, atol=1e-5)


def test_two_processes_assign_as_one_that_has_no_unreadable_image(pairs):
    parts = [load_file(pairs / f"assignments-{rank}.safetensors") for rank in (0, 1)]
    expected = assignments(LOGITS[READABLE], torch.ones(int(READABLE.sum()), dtype=torch.bool))
    torch.testing.assert_close(torch.cat([part["sinkhorn"] for part in parts])[READABLE], expected["sinkhorn"])
    for part in parts:
        torch.testing.assert_close(part["centre"], expected["centre"])


@pytest.mark.slow
def test_more_and_fewer_processes_resume_with_the_same_samples(tmp_path):
    uninterrupted = tmp_path / "uninterrupted"
    uninterrupted.mkdir()
    assert f"step {STEPS}/{STEPS}" in start(*LONG, cwd=uninterrupted).ended()
    run = tmp_path / "run"
    moments = []
    for processes in (2, 1):
        before = steps_taken(run)
        process = torchrun("-m", "vitral", *LONG, cwd=tmp_path) if processes == 2 else start(*LONG, cwd=tmp_path)
        wait_until(lambda before=before: steps_taken(run) >= before + 3, process)
        os.kill(process.pid, signal.SIGTERM)
        stderr = ended(process) if processes == 2 else process.ended()
        assert "stopped by SIGTERM; resume it with: vitral train --resume run" in stderr
        moments.append(steps_taken(run))
    print(f"2 -> 1 -> 2 processes after steps {moments}")
    assert 0 < moments[0] < moments[1] < STEPS
    processes = pair(*LONG, cwd=tmp_path)
    stderr = "".join(process.ended() for process in processes)
    assert [process.returncode for process in processes] == [0, 0], stderr
    for ours, theirs in zip(losses(run), losses(uninterrupted / "run"), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)


def losses(run: Path) -> list[tuple[int, float]]:
    """The training loss after each step."""
    return [(record["step"], record["train/loss"]) for record in records(run) if "train/loss" in record]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_dies_or_hangs_ends_all(tmp_path, how):
    process = torchrun("-m", "vitral", *LONG, "--train.steps", "100000", "--timeout", "15s", cwd=tmp_path)
    wait_until(lambda: steps_taken(tmp_path / "run") >= 5, process)
    second = workers_of(process.pid)[1]
    os.kill(second, how)
    struck = time.monotonic()
    stderr = ended(process) if how == signal.SIGKILL else stderr_while_one_hangs(process, second)
    assert time.monotonic() - struck < 60
    assert process.returncode not in (0, None)
    assert "Traceback" in stderr
    assert all(not Path(f"/proc/{worker}").exists() for worker in workers_of(process.pid))


def test_an_error_in_one_process_ends_all_and_shows_its_traceback(tmp_path):
    """Long before the timeout of two minutes."""
    process = torchrun(Path(__file__).with_name("failing.py"), tmp_path / "run", cwd=tmp_path)
    wait_until(lambda: steps_taken(tmp_path / "run") >= 4, process)
    failed = time.monotonic()
    stderr = ended(process)
    assert time.monotonic() - failed < 100
    assert process.returncode not in (0, None)
    assert "Traceback" in stderr
    assert "RuntimeError: a fault in one process alone" in stderr
    assert "in failing" in stderr, "the place of the error"
    assert not workers_of(process.pid)


def stderr_while_one_hangs(process: subprocess.Popen[str], second: int) -> str:
    """Standard error of torchrun, which cannot stop a frozen process until it is killed."""
    end = time.monotonic() + SECONDS
    while len(running := workers_of(process.pid)) == 2 and time.monotonic() < end:
        time.sleep(0.1)
    assert second in running, "the waiting process failed"
    os.kill(second, signal.SIGKILL)
    return ended(process)


def workers_of(parent: int) -> list[int]:
    """The processes that torchrun started and that are alive, by their rank."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, ppid = stat.read_text().rpartition(")")[2].split()[:2]
            environment = stat.with_name("environ").read_bytes().split(b"\0")
        except OSError:
            continue
        ranks = [int(entry[5:]) for entry in environment if entry.startswith(b"RANK=")]
        if int(ppid) == parent and ranks and state != "Z":
            found[ranks[0]] = int(stat.parent.name)
    return [found[rank] for rank in sorted(found)]
