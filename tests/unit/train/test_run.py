"""A run's folder: never another's, never two trainers at once, nothing left of what could not begin."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tiny import tiny_run
from vitral.train.config import RunConfig
from vitral.train.run import Run

HOLD = """
import sys
from pathlib import Path
from vitral.train.run import Run
run = Run(Path(sys.argv[1]))
run.lock()
print("held", flush=True)
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
    opened.append(Run.create(config))
    return opened[-1]


def held(folder: Path) -> subprocess.Popen[str]:
    """Another process that trains in a folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3] / "src")},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_makes_its_folder_with_parents(tmp_path, opened):
    run = created(tiny_run(tmp_path / "a" / "b"), opened)
    assert run.path == tmp_path / "a" / "b"
    assert run.path.is_dir()


def test_takes_the_next_free_name(tmp_path, opened, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "tiny-2").mkdir(parents=True)
    config = replace(tiny_run(), out=None)
    assert [str(created(config, opened).path) for _ in range(3)] == ["runs/tiny-1", "runs/tiny-3", "runs/tiny-4"]


def test_an_empty_folder_will_do(tmp_path, opened):
    assert created(tiny_run(tmp_path), opened).path == tmp_path


def test_what_a_killed_one_left_that_never_began_is_no_run(tmp_path, opened):
    (tmp_path / ".lock").touch()
    (tmp_path / ".run.json.17.tmp").write_text("{")
    created(tiny_run(tmp_path), opened).lock()
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    (tmp_path / ".profile").touch()
    with pytest.raises(ValueError, match="exists and is not empty"):
        Run.create(tiny_run(tmp_path))


def test_the_folder_of_another_run_is_refused(tmp_path, opened):
    created(tiny_run(tmp_path / "a"), opened).save(tiny_run(tmp_path / "a"))
    content = (tmp_path / "a" / "run.json").read_bytes()
    with pytest.raises(ValueError, match=r"a exists and is not empty: choose another --out, or go on with it: vitral "):
        Run.create(tiny_run(tmp_path / "a"))
    assert (tmp_path / "a" / "run.json").read_bytes() == content


def test_a_command_to_type_quotes_the_folder(tmp_path, opened):
    created(tiny_run(tmp_path / "my run"), opened).save(tiny_run(tmp_path / "my run"))
    with pytest.raises(ValueError, match=r"go on with it: vitral train --resume '/.*/my run'$"):
        Run.create(tiny_run(tmp_path / "my run"))


def test_a_folder_of_anything_else_is_refused(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"exists and is not empty: choose another --out$"):
        Run.create(tiny_run(tmp_path))
    with pytest.raises(ValueError, match=r"holiday\.jpg exists and is not empty"):
        Run.create(tiny_run(tmp_path / "holiday.jpg"))
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_the_configuration_comes_back(tmp_path, opened):
    config = tiny_run(tmp_path / "a")
    run = created(config, opened)
    run.save(config)
    _, again = Run.open(tmp_path / "a")
    assert again == config


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_a_folder_without_a_run(tmp_path, name):
    with pytest.raises(ValueError, match=r"holds no run to resume: it has no run\.json"):
        Run.open(tmp_path / name)


def test_two_trainers_exclude_each_other(tmp_path, opened):
    run = created(tiny_run(tmp_path / "a"), opened)
    run.save(tiny_run(tmp_path / "a"))
    other = held(tmp_path / "a")
    with pytest.raises(ValueError, match="a is being trained by another process"):
        run.lock()
    other.kill()
    other.communicate()
    run.lock()


def test_leftovers_of_interrupted_writes_are_removed(tmp_path, opened):
    run = created(tiny_run(tmp_path / "a"), opened)
    run.save(tiny_run(tmp_path / "a"))
    run.checkpoints_path.mkdir()
    left = [run.path / ".model.safetensors.17.tmp", run.checkpoints_path / ".step_000000005.tmp" / "shard"]
    left[1].parent.mkdir()
    kept = [run.path / ".gitignore", run.path / "notes.tmp", run.checkpoints_path / "step_000000004"]
    for path in (*left, *kept):
        path.write_bytes(b"x")
    run.lock()
    assert not any(path.exists() for path in (*left, left[1].parent))
    assert all(path.exists() for path in kept)


def test_one_that_cannot_begin_leaves_nothing(tmp_path, opened):
    run = created(tiny_run(tmp_path / "a"), opened)
    run.lock()
    run.discard()
    assert not (tmp_path / "a").exists()


def test_one_that_has_begun_stays(tmp_path, opened):
    run = created(tiny_run(tmp_path / "a"), opened)
    run.save(tiny_run(tmp_path / "a"))
    run.discard()
    assert run.config_path.exists()
