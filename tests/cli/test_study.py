"""`vitral study`: list, plan, a run to the end, and wrong use."""

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest

import vitral.commands.study.run
import vitral.studies.runner
import vitral.studies.runs
import vitral.train.memory
from cli.screen import Screen
from tiny import tiny_run
from vitral.data.config import DataConfig
from vitral.errors import UserError
from vitral.runs.run import Run
from vitral.studies.findings import Ordering, Side
from vitral.studies.registry import STUDIES
from vitral.studies.study import TOP1, Arm, Study
from vitral.train.config import RunConfig


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """`vitral study positions` is a study of two learning rates on a few digits."""
    run = replace(tiny_run(steps=2, track="none"), data=DataConfig(source="digits", limit=64))
    arms = [Arm(name=f"rate {rate}", config=replace(run, optim=replace(run.optim, lr=rate))) for rate in (0.01, 0.02)]
    finding = Ordering(
        claim="more is better",
        better=Side(label="0.02", arms=("rate 0.02",)),
        worse=Side(label="0.01", arms=("rate 0.01",)),
    )
    study = Study(
        name="positions",
        title="Rates",
        source="nowhere",
        sentence="more is better.",
        metrics=(TOP1,),
        arms={"mini": lambda: arms},
        findings=lambda _: [finding],
    )
    monkeypatch.setattr(vitral.commands.study.run, "load_study", lambda _: study)


def test_list_names_every_study(screen: Screen) -> None:
    listed = screen.json("study", "list")["studies"]
    assert [study["name"] for study in listed] == list(STUDIES)
    assert all(study["source"] and study["summary"] for study in listed)
    assert all(name in screen.run("study", "list") for name in STUDIES)


@pytest.mark.parametrize(("jobs", "fix"), [("1", "use a machine with more"), ("2", "choose --jobs 1, or use")])
def test_a_study_that_does_not_fit_into_memory(
    screen: Screen, tmp_path: Path, tiny: None, monkeypatch: pytest.MonkeyPatch, jobs: str, fix: str
) -> None:
    """The message has flags that a study takes, and nothing is left behind."""
    monkeypatch.setattr(vitral.train.memory, "free_memory", lambda _: 1)
    # a process of its own would not see the stand-in
    monkeypatch.setattr(vitral.studies.runner, "_in_parallel", vitral.studies.runner._in_turn)
    error = screen.refusal("study", "positions", "--out", tmp_path / "out", "--seeds", "3", "--jobs", jobs)
    assert error.startswith("rate 0.01, seed 3: batches of 64 images in 1 parts need about 0.0 GB, and cpu has 0.0 GB")
    assert f": {fix}" in error
    assert "--train" not in error
    assert not (tmp_path / "out").exists()


def test_larger_sizes_of_a_study_name_the_smaller_ones() -> None:
    options = Namespace(size="paper", jobs=2)
    assert vitral.commands.study.run.memory_fix(options).startswith("choose a smaller --size or --jobs 1, or")


@pytest.mark.slow
def test_a_study_runs_to_its_end_and_is_read_the_second_time(screen: Screen, tmp_path: Path, tiny: None) -> None:
    words = ("study", "positions", "--out", tmp_path, "--seeds", "3,4")
    plan = screen.json("study", "plan", *words[1:])
    assert (plan["runs"], plan["finished"], plan["arms"], plan["seeds"]) == (4, 0, 2, 2)
    result = screen.json(*words)
    assert screen.errors.count("run ") == 4
    assert result["seeds"] == [3, 4]
    assert result["findings"][0]["claim"] == "more is better"
    folder = Path(result["folder"])
    assert {path.name for path in folder.iterdir()} == {
        *("results.json", "results.csv", "results.md", "figure.png", "figure.svg"),
    }
    output = screen.run(*words)
    assert "4 of 4 runs are finished already" in screen.errors
    assert "The paper found: more is better." in output
    assert "finished" in screen.run("study", "plan", *words[1:])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nope"], "unknown study 'nope'"),
        (["position"], "did you mean positions"),
        (["positions", "--size", "huge"], "invalid choice: 'huge'"),
        (["shape", "--size", "paper"], "the study shape has no size paper: choose --size mini"),
        (["positions", "--seeds", "a"], "--seeds must be integers such as 0,1,2, not a"),
        (["positions", "--seeds", "1,1"], "--seeds has a seed twice"),
        (["positions", "--jobs", "0"], "--jobs must be between 1 and"),
        (["positions", "--steps", "0"], "--steps must be at least 1, not 0"),
        (["positions", "--speed"], "unknown option --speed"),
        (["plan"], "the following arguments are required: NAME"),
        (["list", "positions"], "unrecognized arguments: positions"),
    ],
)
def test_wrong_use_is_one_sentence(screen: Screen, words: list[str], sentence: str) -> None:
    assert sentence in screen.refusal("study", *words)


def test_missing_data_is_named_and_nothing_is_written(screen: Screen, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    words = ("positions", "--data-root", tmp_path / "nothing", "--out", out)
    assert "nothing is not a folder" in screen.refusal("study", *words)
    assert "nothing is not a folder" in screen.refusal("study", "plan", *words)
    assert not out.parent.exists()


def test_a_refused_run_leaves_nothing(
    screen: Screen, tmp_path: Path, tiny: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(run: Run, _: RunConfig) -> None:
        run.lock()
        run.discard()
        raise UserError("this needs more memory")

    monkeypatch.setattr(vitral.studies.runs, "fit", refuse)
    assert "more memory" in screen.refusal("study", "positions", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_where_results_go_is_refused_before_training(screen: Screen, tmp_path: Path) -> None:
    (tmp_path / "positions-mini").write_text("mine")
    assert "positions-mini" in screen.refusal("study", "positions", "--out", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["positions-mini"]
