"""A suite of tasks that is killed goes on where it was, and ends in the figures of one that was left alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.small_suite import TITLES
from processes import SECONDS, SOURCES, wait_until

SUITE = Path(__file__).with_name("small_suite.py")
WORDS = ("--suite", "vtab-mini", "--finetune", "light", "--device", "cpu", "--seeds", "0", "1", "--json")


def start(run: Path, *more: str) -> subprocess.Popen[str]:
    """The suite in a process of its own."""
    folders = os.pathsep.join([str(SOURCES), str(SUITE.parents[1])])
    environment = os.environ | {"PYTHONPATH": folders, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SUITE), "eval", str(run), *WORDS, *more]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[list[dict[str, Any]], str]:
    """What it found, but for the time that took, and what it said."""
    output, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, said
    return [{key: row[key] for key in row if key != "seconds"} for row in json.loads(output)["tasks"]], said


def scores(run: Path) -> set[Path]:
    return set((run / "features").glob("*.json"))


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> list[Path]:
    return [Path(shutil.copytree(trained, tmp_path / name)) for name in ("whole", "killed")]


def test_a_suite_that_is_killed_goes_on_with_the_task_it_was_at(runs: list[Path]) -> None:
    whole, killed = runs
    expected, said = ended(start(whole))
    assert "measured before" not in said
    assert {row["task"] for row in expected} == set(TITLES)
    frozen = 3 * len(TITLES)  # kNN, linear probe and few-shot of each
    assert len(scores(whole)) == frozen + len(TITLES)
    for done in (2, frozen + 1):  # while measuring, and while fine-tuning on the second task
        process = start(killed)
        wait_until(lambda done=done: len(scores(killed)) >= done, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    kept = {path: path.stat().st_mtime_ns for path in scores(killed)}
    assert frozen < len(kept) < frozen + len(TITLES)
    found, said = ended(start(killed))
    assert found == expected
    assert f"{len(kept)} results were measured before" in said
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert {path.name for path in scores(killed)} == {path.name for path in scores(whole)}


def test_results_of_other_settings_are_not_taken(runs: list[Path]) -> None:
    whole, other = runs
    ended(start(whole))
    for name in ("model.safetensors", "config.json"):
        shutil.copy(other / name, whole / name)  # the same weights are the same model
    _, said = ended(start(whole, "--data.workers", "1"))
    assert f"{4 * len(TITLES)} results were measured before" in said
    _, said = ended(start(whole, "--seeds", "2", "3"))
    assert "measured before" not in said
