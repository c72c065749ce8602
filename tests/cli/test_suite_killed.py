"""A suite of tasks that is killed resumes, and ends with the results of an uninterrupted one."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import forks
from cli.screen import Screen
from cli.small_suite import TITLES, shrink
from vitral.datasets.registry import TASKS
from vitral.suites.finetuning import PROTOCOLS

SUITE = Path(__file__).with_name("small_suite.py")
WORDS = ("--suite", "vtab-mini", "--finetune", "light", "--device", "cpu", "--seeds", "0", "1")


@pytest.fixture
def small() -> Iterator[None]:
    """The suite of `small_suite.py`."""
    originals = (dict(TASKS), dict(PROTOCOLS))
    shrink()
    yield
    for table, whole in zip((TASKS, PROTOCOLS), originals, strict=True):
        table.clear()
        table.update(whole)


def start(run: Path, *, after: int) -> forks.Fork:
    """The suite in a new process, killed after some results; with one thread as in these tests, for equal results."""
    return forks.start("eval", run, *WORDS, cwd=run.parent, script=SUITE, KILLED_AFTER=str(after))


def untimed(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The results without their time."""
    return [{key: row[key] for key in row if key != "seconds"} for row in result["tasks"]]


def scores(run: Path) -> set[Path]:
    return set((run / "features").glob("*.json"))


@pytest.mark.usefixtures("small")
def test_a_killed_suite_resumes_at_the_same_task(screen: Screen, trained: Path, tmp_path: Path) -> None:
    whole, killed = (Path(shutil.copytree(trained, tmp_path / name)) for name in ("whole", "killed"))
    frozen = 3 * len(TITLES)  # kNN, linear probe and few-shot of each
    process = start(killed, after=frozen + 1)  # the first of two trainings on the first task is over
    errors = process.ended()
    assert process.returncode == -signal.SIGKILL, errors
    cached = {path: path.stat().st_mtime_ns for path in scores(killed)}
    assert len(cached) == frozen + 1
    result = screen.json("eval", killed, *WORDS)
    assert f"{len(cached)} results were read from the cache" in screen.errors
    assert {path: path.stat().st_mtime_ns for path in cached} == cached
    expected = screen.json("eval", whole, *WORDS)
    assert "from the cache" not in screen.errors
    assert untimed(result) == untimed(expected)
    assert {row["task"] for row in result["tasks"]} == set(TITLES)
    assert {path.name for path in scores(killed)} == {path.name for path in scores(whole)}
