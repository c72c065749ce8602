"""Kills processes at random moments, resumes them with other workers, and compares the end with an undisturbed one."""

import fcntl
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from forks import Fork, pair, start
from processes import SECONDS

__all__ = ["SCENARIOS", "Outcome", "flags", "kill_and_resume", "prepare", "undisturbed", "wait"]

WORKERS = (0, 1, 2)
MOST_KILLS = 6
"""Kills of one run, which then goes on to its end."""

SECONDS_TAKEN = re.compile(rb'"seconds": [-+.e0-9]+')
"""What no two results have in common."""

TRAINING = {
    "seed": 7,
    "model.depth": 1,
    "model.dropout": 0.1,
    "train.steps": 120,
    "train.ema": 0.9,
    "train.log": "5steps",
    "train.evaluate": "40steps",
    "train.batch-size": 16,
    "checkpoint.every": "7steps",
}
"""A short run with all kinds of state."""
UNLABELLED = {
    **TRAINING,
    "data.source": "digits",
    "data.root": "None",
    "data.limit": 200,
    "model.image-size": 8,
    "model.patch-size": 2,
    "model.width": 16,
    "train.evaluate": "120steps",
}
DINO = {
    **UNLABELLED,
    "train.ema": "None",
    "objective.prototypes": 32,
    "objective.hidden": 16,
    "objective.bottleneck": 8,
    "objective.crops.num-local": 1,
    "objective.crops.local-size": 4,
}


def flags(settings: dict[str, object]) -> list[str]:
    """The words of a command line that sets these."""
    return [word for key, value in settings.items() for word in (f"--{key}", str(value))]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Something that is killed, and then goes on."""

    name: str
    begin: tuple[str, ...]
    resume: tuple[str, ...]
    """The command that goes on."""
    results: tuple[str, ...]
    """Files that are the same bytes whatever happened, as patterns."""
    size: int = 1
    """Processes."""
    workers: bool = True
    """Whether the commands take --data.workers."""
    model: bool = False
    """Whether the commands use a run, which is made before."""
    script: Path | None = None
    """What runs the commands, if not `vitral`."""
    overwrites: bool = True
    """Whether the command runs again when its results are there; one that refuses writes them whole or not at all."""


RUN = ("run/model.safetensors", "run/config.json")


def training(name: str, recipe: str, settings: dict[str, object], *, size: int = 1) -> Scenario:
    """A run that is resumed."""
    begin = ("train", recipe, *flags(settings), "--out", "run")
    return Scenario(name=name, begin=begin, resume=("train", "--resume", "run"), results=RUN, size=size)


SWEEP = (
    *("sweep", "digits", "--out", "sweep", "--data.val-fraction", "0.1", "--grid", "optim.lr=0.0001,0.01"),
    *flags({**TRAINING, "train.steps": 40, "train.evaluate": "40steps"} | {"seed": None}),
)
SWEEP = tuple(word for word in SWEEP if word not in ("--seed", "None"))
MODEL = ("train", "digits", *flags({"train.steps": 8, "model.depth": 1}), "--out", "run")
SUITE = ("eval", "run", "--suite", "vtab-mini", "--device", "cpu")
EXPORT = ("export", "run", "model.onnx")
PACK = ("data", "pack", "photographs", "packed", "--short-side", "16", "--workers", "2")

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        training("train", "digits", TRAINING),
        training("train, two processes", "digits", TRAINING, size=2),
        training("train with muon", "digits", {**TRAINING, "optim.name": "muon"}),
        training("masked autoencoder", "fashion-mnist-mae", UNLABELLED),
        training("masked patches", "fashion-mnist-masked-patch", UNLABELLED),
        training("DINO", "fashion-mnist-dino", DINO),
        Scenario(
            name="sweep",
            begin=SWEEP,
            resume=SWEEP,
            results=("sweep/results.json", "sweep/results.csv", "sweep/*-seed0/model.safetensors"),
            workers=False,
        ),
        Scenario(name="pack", begin=PACK, resume=PACK, results=("packed/*/*.arrow", "packed/*/*.json"), workers=False),
        Scenario(
            name="suite",
            begin=SUITE,
            resume=SUITE,
            results=("run/features/*.json",),
            workers=False,
            model=True,
            script=Path(__file__).parents[1] / "cli" / "small_suite.py",
        ),
        Scenario(
            name="export",
            begin=EXPORT,
            resume=EXPORT,
            results=("model.onnx",),
            workers=False,
            model=True,
            overwrites=False,
        ),
    )
}


@dataclass
class Outcome:
    """What became of one run that was killed again and again."""

    scenario: str
    kills: int = 0
    identical: bool = False
    problems: list[str] = field(default_factory=list)
    """Tracebacks, hangs and other things that should not be."""


def kill_and_resume(name: str, *, seed: int, reference: Path, folder: Path) -> Outcome:
    """Kills a run up to `MOST_KILLS` times, lets it end, and compares.

    Args:
        name: one of `SCENARIOS`.
        seed: of the moments and the numbers of workers.
        reference: a folder for the undisturbed run, which is made if it is not there.
        folder: an empty folder.
    """
    scenario, prng, outcome = SCENARIOS[name], random.Random(f"{name} {seed}"), Outcome(scenario=name)
    seconds = undisturbed(scenario, reference)
    prepare(folder)
    if scenario.model:
        shutil.copytree(reference / "model", folder / "run")
    command: Sequence[str] = scenario.begin
    for _ in range(prng.randint(1, MOST_KILLS)):
        processes = launch(scenario, command, folder, prng)
        end = time.monotonic() + prng.uniform(0, seconds)
        while time.monotonic() < end and any(process.poll() is None for process in processes):
            time.sleep(0.002)
        alive = [process for process in processes if process.poll() is None]
        for process in alive:  # or the others see its sockets close before they are killed themselves
            os.kill(process.pid, signal.SIGSTOP)
        for process in alive:
            kill_group(process)
        wait(processes, outcome)
        outcome.kills += bool(alive)
        if begun(scenario, folder):
            command = scenario.resume
        if not alive or written(scenario, folder):
            break
    if not written(scenario, folder):
        wait(launch(scenario, command, folder, prng), outcome, to_end=True)
    outcome.identical = not outcome.problems and same(scenario, folder, reference, outcome)
    return outcome


def prepare(folder: Path) -> None:
    """The images that a copy is made of."""
    from photographs import write_photographs

    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "photographs").exists():
        write_photographs(folder / "photographs", seed=0)


def undisturbed(scenario: Scenario, reference: Path) -> float:
    """Makes the run that is compared with, once, also if several processes want it; the seconds that it took."""
    reference.parent.mkdir(parents=True, exist_ok=True)
    record = reference / "seconds"
    with Path(f"{reference}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not record.exists():
            record.write_text(str(make_reference(scenario, reference)))
    return float(record.read_text())


def make_reference(scenario: Scenario, reference: Path) -> float:
    """Runs a scenario to its end; the seconds that it took."""
    shutil.rmtree(reference, ignore_errors=True)
    prepare(reference)
    wait([start("--version", cwd=reference)], Outcome(scenario="start"))  # imports take longer than the run
    outcome = Outcome(scenario=scenario.name)
    if scenario.model:
        wait([start(*MODEL, cwd=reference)], outcome, to_end=True)
        shutil.copytree(reference / "run", reference / "model")
    started = time.monotonic()
    wait(launch(scenario, scenario.begin, reference, random.Random(0)), outcome, to_end=True)
    assert not outcome.problems, outcome.problems
    return time.monotonic() - started


def launch(scenario: Scenario, command: Sequence[str], folder: Path, prng: random.Random) -> tuple[Fork, ...]:
    workers = ("--data.workers", str(prng.choice(WORKERS))) if scenario.workers else ()
    if scenario.size == 2:
        return pair(*command, *workers, cwd=folder)
    return (start(*command, *workers, cwd=folder, script=scenario.script),)


def begun(scenario: Scenario, folder: Path) -> bool:
    """Whether there is something to resume; a run that was killed before it wrote its configuration begins anew."""
    run = folder / "run"
    if scenario.begin == scenario.resume or (run / "run.json").exists():
        return True
    shutil.rmtree(run, ignore_errors=True)
    return False


def written(scenario: Scenario, folder: Path) -> bool:
    """Whether a kill came between the last byte of the results and the end of a command that will not run again."""
    return not scenario.overwrites and all(any(folder.glob(pattern)) for pattern in scenario.results)


def kill_group(process: Fork) -> None:
    """Kills a process, and now and then the workers with it; orphans end by themselves."""
    if process.pid % 3 == 0:
        with suppress(ProcessLookupError):  # it has no group yet
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def wait(processes: Sequence[Fork], outcome: Outcome, *, to_end: bool = False) -> None:
    """Waits for the end, and notes what should not be."""
    end = time.monotonic() + SECONDS
    while any(process.poll() is None for process in processes):
        if time.monotonic() > end:
            outcome.problems.append("hang")
            for process in processes:
                kill_group(process)
            return
        time.sleep(0.01)
    for process in processes:
        errors = process.errors.read_text(errors="replace")
        if "Traceback" in errors:
            outcome.problems.append(f"traceback: {errors.strip().splitlines()[-1][:200]}")
        if to_end and process.returncode:
            outcome.problems.append(f"exit status {process.returncode}: {errors[-300:]}")


def same(scenario: Scenario, folder: Path, reference: Path, outcome: Outcome) -> bool:
    """Whether the results are the same bytes."""
    collect: Callable[[Path], dict[str, bytes]] = lambda root: {  # noqa: E731
        str(path.relative_to(root)): SECONDS_TAKEN.sub(b"", path.read_bytes())
        for pattern in scenario.results
        for path in root.glob(pattern)
    }
    ours, theirs = collect(folder), collect(reference)
    different = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    if different:
        outcome.problems.append(f"not identical: {', '.join(different)}")
    return not different
