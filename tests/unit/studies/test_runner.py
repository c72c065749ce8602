"""Runs of studies: trained once, resumed, shared; the same in one process and in two."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import vitral.studies.runner
import vitral.studies.runs
from tiny import tiny_run
from vitral.data.config import DataConfig
from vitral.files import write_json
from vitral.runs.reporter import Diverged
from vitral.runs.run import Run
from vitral.studies.planning import plan_study
from vitral.studies.runner import RUNS, run_arms
from vitral.studies.runs import RESULT, PlannedRun, RunResult, plan_runs
from vitral.studies.study import FEW_SHOT, TOP1, Arm, Study
from vitral.train.config import ModelSetup, RunConfig

BOTH = (TOP1, FEW_SHOT)


def digits() -> RunConfig:
    return replace(tiny_run(steps=2, track="none"), data=DataConfig(source="digits", limit=64))


def arms(*rates: float) -> list[Arm]:
    run = digits()
    return [Arm(name=f"rate {rate:g}", config=replace(run, optim=replace(run.optim, lr=rate))) for rate in rates]


def run(arms: list[Arm], folder: Path, *, metrics: tuple[str, ...] = (TOP1,), jobs: int = 1) -> dict[str, list]:
    return run_arms(arms, metrics=metrics, seeds=(0, 1), folder=folder, jobs=jobs, log=lambda _: None)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Folders of the runs that are trained, by a stand-in whose accuracy depends on the configuration."""
    trained = []

    def fit(run: Run, config: RunConfig) -> dict[str, float]:
        run.save(config)
        trained.append(run.path.name)
        return {"test/top1": config.optim.lr + config.seed / 10, "test/loss": 1.0}

    monkeypatch.setattr(vitral.studies.runs, "fit", fit)
    monkeypatch.setattr(vitral.studies.runs, "few_shot_accuracy", lambda *_: 0.5)
    return trained


def test_equal_runs_have_one_key_and_different_ones_several(tmp_path: Path) -> None:
    one, two = arms(0.1, 0.2)
    again = replace(one, name="another name", config=replace(one.config, recipe="another", command=("x",)))
    started = replace(one, name="started", start=two.config)
    planned = plan_runs([one, two, again, started], metrics=BOTH, seeds=(0,), folder=tmp_path)
    keys = [planned[name, 0].key for name in (one.name, two.name, "another name", "started")]
    assert keys[0] == keys[2]
    assert len(set(keys)) == 3
    assert planned["started", 0].start.key == keys[1]
    assert planned["started", 0].config.model.weights == (tmp_path / keys[1]).resolve()


def test_runs_are_trained_once_and_shared(tmp_path: Path, fits: list[str]) -> None:
    first = run(arms(0.1, 0.2), tmp_path)
    assert len(fits) == len(set(fits)) == 4
    second = run(arms(0.2, 0.3), tmp_path, metrics=BOTH)  # a second study, with another metric
    assert len(fits) == 6
    assert [result.metrics[TOP1] for result in second["rate 0.2"]] == [
        result.metrics[TOP1] for result in first["rate 0.2"]
    ]
    assert all(result.metrics[FEW_SHOT] == 0.5 for results in second.values() for result in results)
    assert run(arms(0.1, 0.2), tmp_path) == {**first, "rate 0.2": second["rate 0.2"]}
    assert len(fits) == 6


def test_a_study_that_is_killed_again_and_again_ends_with_the_same_numbers(
    tmp_path: Path, fits: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(arms(0.1, 0.2), tmp_path / "whole")
    write, kills = vitral.studies.runs.write_json, iter(range(5))

    def killed(path: Path, value: Any) -> None:
        if path.name == RESULT and next(kills, None) is not None:
            raise KeyboardInterrupt  # trained, and the result not written
        write(path, value)

    monkeypatch.setattr(vitral.studies.runs, "write_json", killed)
    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            run(arms(0.1, 0.2), tmp_path / "killed")
    found = run(arms(0.1, 0.2), tmp_path / "killed")
    assert {name: [one.metrics for one in results] for name, results in found.items()} == {
        name: [one.metrics for one in results] for name, results in expected.items()
    }


def test_an_arm_starts_from_the_model_of_its_seed(tmp_path: Path, fits: list[str]) -> None:
    start = digits()
    tuned = replace(start, model=ModelSetup(architecture=start.model.architecture), train=replace(start.train, steps=1))
    run([Arm(name="tuned", config=tuned, start=start)], tmp_path)
    assert len(set(fits)) == 4
    for seed, folder in enumerate(fits[2:]):
        text = (tmp_path / RUNS / folder / "run.json").read_text()
        assert fits[seed] in text


def test_a_run_that_diverges_is_reported_and_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(*_: object) -> None:
        raise Diverged("the loss is not finite")

    monkeypatch.setattr(vitral.studies.runs, "fit", diverge)
    found = run(arms(0.1), tmp_path)
    assert [(result.metrics, result.failure) for result in found["rate 0.1"]] == [({}, "the loss is not finite")] * 2
    monkeypatch.undo()
    assert run(arms(0.1), tmp_path) == found


def test_a_run_starts_when_its_own_model_is_trained_though_others_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned = threading.Event()

    def train(run: PlannedRun) -> RunResult:
        if run.label == "tuned, seed 0":
            tuned.set()
        elif run.label == "pre-training, seed 1":
            assert tuned.wait(60), "the run of seed 0 waits for the model of seed 1"
        result = RunResult(metrics={TOP1: 0.5}, seconds=1.0)
        run.folder.mkdir()
        write_json(run.folder / RESULT, asdict(result))
        return result

    monkeypatch.setattr(vitral.studies.runner, "ProcessPoolExecutor", lambda jobs, **_: ThreadPoolExecutor(jobs))
    monkeypatch.setattr(vitral.studies.runner, "train_run", train)
    start = digits()
    found = run([Arm(name="tuned", config=start, start=arms(0.1)[0].config)], tmp_path, jobs=2)
    assert [result.metrics for result in found["tuned"]] == [{TOP1: 0.5}] * 2


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # one thread for each process, as there is here: sums in several parts round otherwise
    monkeypatch.setattr("vitral.studies.runner.os.cpu_count", lambda: 2)
    assert torch.get_num_threads() == 1

    def metrics(results: dict[str, list[RunResult]]) -> dict[str, list]:
        return {name: [one.metrics for one in runs] for name, runs in results.items()}

    start = digits()
    more = [*arms(0.1, 0.2), Arm(name="tuned", config=start, start=arms(0.1)[0].config)]
    assert metrics(run(more, tmp_path / "two", jobs=2)) == metrics(run(more, tmp_path / "one"))


def test_the_plan_counts_what_is_not_finished(tmp_path: Path, fits: list[str]) -> None:
    study = Study(
        name="tiny",
        title="Tiny",
        source="none",
        sentence="nothing.",
        metrics=BOTH,
        arms={"mini": lambda: arms(0.1, 0.2)},
        findings=lambda _: [],
    )

    def plan(metrics_of: Callable[[], list[Arm]], size: str = "mini") -> Any:
        return plan_study(study, metrics_of(), size=size, seeds=(0, 1), folder=tmp_path, jobs=1)

    before = plan(study.arms["mini"])
    assert (before.runs, before.finished, before.images) == (4, 0, 4 * 2 * 64)
    assert before.hours > 0
    assert before.exaflops > 0
    run(arms(0.1), tmp_path, metrics=BOTH)
    after = plan(study.arms["mini"])
    assert (after.runs, after.finished, after.images) == (4, 2, before.images / 2)
    assert after.exaflops == pytest.approx(before.exaflops / 2)
    assert plan(study.arms["mini"], size="paper").machine == "one NVIDIA H100 SXM 80 GB"
