"""A run's folder: it overwrites no other run, excludes a second trainer, and disappears if the run fails to start."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tiny import tiny_run
from vitral.runs.run import Run
from vitral.train.config import RunConfig, read_run_config

LOCK = """
import sys
from pathlib import Path
from vitral.runs.run import Run
run = Run(Path(sys.argv[1]))
run.lock()
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def opened() -> Iterator[list[Run]]:
    """Runs to close after the test."""
    runs: list[Run] = []
    yield runs
    for run in runs:
        run.close()


def created(config: RunConfig, opened: list[Run]) -> Run:
    opened.append(Run.create(config.out, recipe=config.recipe))
    return opened[-1]


def locked_by_another(folder: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock of a folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", LOCK, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3] / "src")},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def test_the_folder_and_its_parents_are_created(tmp_path, opened):
    run = created(tiny_run(tmp_path / "a" / "b"), opened)
    assert run.path == tmp_path / "a" / "b"
    assert run.path.is_dir()


def test_the_default_folder_is_the_next_free_number(tmp_path, opened, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "tiny-2").mkdir(parents=True)
    config = replace(tiny_run(), out=None)
    assert [str(created(config, opened).path) for _ in range(3)] == ["runs/tiny-1", "runs/tiny-3", "runs/tiny-4"]


def test_an_empty_folder_is_accepted(tmp_path, opened):
    assert created(tiny_run(tmp_path), opened).path == tmp_path


def test_a_folder_with_only_a_lock_and_temporary_files_is_free(tmp_path, opened):
    (tmp_path / ".lock").touch()
    (tmp_path / ".run.json.17.tmp").write_text("{")
    created(tiny_run(tmp_path), opened).lock()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    (tmp_path / ".profile").touch()
    with pytest.raises(ValueError, match="exists and is not empty"):
        Run.create(tmp_path, recipe="tiny")


def test_the_folder_of_another_run_is_refused(tmp_path, opened):
    created(tiny_run(tmp_path / "a"), opened).save(tiny_run(tmp_path / "a"))
    content = (tmp_path / "a" / "run.json").read_bytes()
    with pytest.raises(ValueError, match=r"a exists and is not empty: choose another --out, or resume it: vitral "):
        Run.create(tmp_path / "a", recipe="tiny")
    assert (tmp_path / "a" / "run.json").read_bytes() == content


def test_the_suggested_command_quotes_the_folder(tmp_path, opened):
    created(tiny_run(tmp_path / "my run"), opened).save(tiny_run(tmp_path / "my run"))
    with pytest.raises(ValueError, match=r"resume it: vitral train --resume '/.*/my run'$"):
        Run.create(tmp_path / "my run", recipe="tiny")


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"exists and is not empty: choose another --out$"):
        Run.create(tmp_path, recipe="tiny")
    with pytest.raises(ValueError, match=r"holiday\.jpg exists and is not empty"):
        Run.create(tmp_path / "holiday.jpg", recipe="tiny")
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_the_configuration_round_trips(tmp_path, opened):
    config = tiny_run(tmp_path / "a")
    run = created(config, opened)
    run.save(config)
    assert read_run_config(Run.open(tmp_path / "a")) == config


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_a_folder_without_a_run_cannot_be_opened(tmp_path, name):
    with pytest.raises(ValueError, match=r"it has no run\.json"):
        Run.open(tmp_path / name)


def test_two_trainers_exclude_each_other(tmp_path, opened):
    run = created(tiny_run(tmp_path / "a"), opened)
    run.save(tiny_run(tmp_path / "a"))
    other = locked_by_another(tmp_path / "a")
    with pytest.raises(ValueError, match="a is being trained by another process"):
        run.lock()
    other.kill()
    other.communicate()
    run.lock()


def test_temporary_files_are_removed(tmp_path, opened):
    run = created(tiny_run(tmp_path / "a"), opened)
    run.save(tiny_run(tmp_path / "a"))
    run.checkpoints_path.mkdir()
    temporary = [run.path / ".model.safetensors.17.tmp", run.checkpoints_path / ".step_000000005.tmp" / "shard"]
    temporary[1].parent.mkdir()
    others = [run.path / ".gitignore", run.path / "notes.tmp", run.checkpoints_path / "step_000000004"]
    for path in (*temporary, *others):
        path.write_bytes(b"x")
    run.lock()
    assert not any(path.exists() for path in (*temporary, temporary[1].parent))
    assert all(path.exists() for path in others)


def test_discard_removes_an_empty_folder(tmp_path, opened):
    run = created(tiny_run(tmp_path / "a"), opened)
    run.lock()
    run.discard()
    assert not (tmp_path / "a").exists()


def test_discard_keeps_a_saved_run(tmp_path, opened):
    run = created(tiny_run(tmp_path / "a"), opened)
    run.save(tiny_run(tmp_path / "a"))
    run.discard()
    assert run.config_path.exists()
