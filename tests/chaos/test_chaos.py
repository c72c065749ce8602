"""A short slice of `make chaos`, always the same: what breaks here broke a promise of SECURITY.md."""

from pathlib import Path

import pytest

from chaos.attack import attack
from chaos.campaign import Row, jobs, table
from chaos.folders import use_damaged
from chaos.inputs import KINDS
from chaos.kills import SCENARIOS, flags, kill_and_resume, prepare
from chaos.limits import run_limited
from chaos.services import FLAGS, kill_services
from forks import start

TINY = {"train.steps": 8, "model.depth": 1, "checkpoint.every": "4steps", "train.log": "2steps"}
DAMAGED_RUNS = (3, 5, 11)
"""Seeds of what is damaged."""


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_refused(kind: str, tmp_path: Path) -> None:
    report = attack(kind, first_seed=1, count=120, folder=tmp_path)
    assert report.tried >= 100
    assert report.read
    assert report.refused
    assert (report.tracebacks, report.hangs, report.executed, report.noise) == ([], [], [], [])


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_everything_that_is_killed_ends_with_the_same_bytes(name: str, tmp_path: Path) -> None:
    outcome = kill_and_resume(name, seed=0, reference=tmp_path / "reference", folder=tmp_path / "run")
    assert (outcome.problems, outcome.identical) == ([], True)


@pytest.mark.slow
@pytest.mark.parametrize("name", FLAGS)
def test_a_service_that_is_killed_answers_again(name: str, tmp_path: Path) -> None:
    prepare(tmp_path)
    run = start("train", "digits", *flags(TINY), "--out", "run", cwd=tmp_path)
    assert "step 8/8" in run.ended()
    outcome = kill_services(name, seed=0, model=tmp_path / "run", folder=tmp_path)
    assert not outcome.problems
    assert outcome.kills == 3


@pytest.mark.slow
def test_damaged_runs_are_used_or_refused(tmp_path: Path) -> None:
    prepare(tmp_path / "reference")
    run = start("train", "digits", *flags(TINY), "--out", "run", cwd=tmp_path / "reference")
    assert "step 8/8" in run.ended()
    for seed in DAMAGED_RUNS:
        what, outcome = use_damaged(tmp_path / "reference", tmp_path / str(seed), seed=seed)
        assert not outcome.problems, what


@pytest.mark.slow
@pytest.mark.parametrize("name", ["28 open files", "files of 100 KB"])
def test_limits_are_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    assert run_limited(name, tmp_path) == []


def test_every_attack_has_its_turn() -> None:
    endless = jobs(3)
    groups = {next(endless)[0] for _ in range(50)}
    assert groups == {"limits", "damaged files", "killed", "killed services", "damaged runs"}


def test_the_table_names_what_broke() -> None:
    row = Row(tried=2, survived=1)
    row.add("hangs: a.png", "hangs")
    row.add("tracebacks: b.png: the size has changed after 3 MiB", "tracebacks")
    row.add("memory: c.png: 1,300 MiB", "memory")
    text = table({"damaged images": row}, seed=1, minutes=2.0)
    assert "| damaged images | 2 | 0 | 1 | 1 | 1 | 0 | 0 |" in text
    assert "- damaged images: hangs: a.png" in text
    assert "- damaged images: memory: c.png: 1,300 MiB" in text


def test_a_file_that_takes_much_memory_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaos.attack.PEAK_MIB", 1)
    keep = tmp_path / "kept"
    (tmp_path / "work").mkdir()
    report = attack("tables", first_seed=1, count=2, folder=tmp_path / "work", keep=keep)
    assert report.memory
    assert list(keep.iterdir())
