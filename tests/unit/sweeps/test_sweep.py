"""Sweeps: ranking, resuming, final runs on all training images, errors."""

import csv
import gc
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
from PIL import Image

import vitral.sweeps.sweep
from tiny import tiny_run
from vitral.data.config import DataConfig
from vitral.distributed.world import World
from vitral.errors import UserError
from vitral.runs.reporter import Diverged
from vitral.runs.run import Run
from vitral.sweeps.config import SweepConfig
from vitral.sweeps.sweep import Configure, Sweep
from vitral.train.config import RunConfig, read_run_config
from vitral.train.resource_errors import OutOfMemory


@pytest.fixture(autouse=True)
def frozen_heap() -> Iterator[None]:
    """A sweep collects garbage before each run, which takes a second with the objects of all imported modules."""
    gc.freeze()
    yield
    gc.unfreeze()


def sweep_config(**changes: Any) -> SweepConfig:
    if "search" in changes:
        changes = {"grid": {}, **changes}
    values = dict(recipe=["tiny"], grid={"lr": ["0.01", "1e-9"]}, seeds=[0, 1], metric="val/top1")
    return SweepConfig(**{**values, **changes})


def configure(arguments: list[str]) -> RunConfig:
    """Stands in for the parser of `vitral train`, with a few keys."""
    flags = {"--flip", "--no-flip", "--data.train-on-val"}
    options = {word: "" for word in arguments if word in flags}
    rest = [word for word in arguments[1:] if word not in flags]
    if len(rest) % 2:
        raise UserError("a flag takes no value")
    options |= zip(rest[::2], rest[1::2], strict=True)
    if (
        unknown := set(options)
        - flags
        - {"--lr", "--steps", "--seed", "--out", "--data.val-fraction", "--data.val-fold"}
    ):
        raise UserError(f"there is no {unknown.pop()}")
    try:
        steps = int(options.get("--steps", "3"))
    except ValueError as error:
        raise UserError(str(error)) from None
    run = tiny_run(Path(options.get("--out", "none")), optimiser="adamw", steps=steps)
    val_fraction = 0.2 if options.get("--data.val-fraction") is None else None
    return replace(
        run,
        seed=int(options.get("--seed", "0")),
        optim=replace(run.optim, lr=float(options.get("--lr", "0.01"))),
        augment=replace(run.augment, flip="--no-flip" not in options),
        data=replace(run.data, val_fraction=val_fraction, val_fold=options.get("--data.val-fold")),
    )


class OpenSweep(Protocol):
    def __call__(self, folder: Path, config: SweepConfig, configure: Configure = configure) -> Sweep: ...


@pytest.fixture
def open_sweep() -> Iterator[OpenSweep]:
    """Opens sweeps, and closes them after the test."""
    sweeps = []

    def open_sweep(folder: Path, config: SweepConfig, configure: Configure = configure) -> Sweep:
        sweeps.append(Sweep(folder, config, configure))
        return sweeps[-1]

    yield open_sweep
    for sweep in sweeps:
        sweep.close()


def lr_as_metric(config: RunConfig) -> dict[str, float]:
    return dict.fromkeys(("val/top1", "val/loss", "test/top1"), config.optim.lr)


def stub_fit(
    monkeypatch: pytest.MonkeyPatch, metrics: Callable[[RunConfig], dict[str, float]] = lr_as_metric
) -> list[str]:
    """Replaces training by a function of the configuration; returns the names of the runs that are trained."""
    trained: list[str] = []

    def fit(run: Run, config: RunConfig, world: World) -> dict[str, float]:
        trained.append(run.path.name)
        return metrics(config)

    monkeypatch.setattr(vitral.sweeps.sweep, "fit", fit)
    return trained


def test_results_are_ranked_and_the_best_is_retrained(tmp_path, monkeypatch, open_sweep):
    def metrics(config: RunConfig) -> dict[str, float]:
        loss = 0.5 + 0.125 * config.seed - 10 * config.optim.lr
        return {"val/loss": loss, "test/loss": loss, "test/top1": 1 - loss}

    stub_fit(monkeypatch, metrics)
    sweep = open_sweep(tmp_path / "sweep", sweep_config(metric="val/loss", retrain=[0, 1]))
    results = sweep.run(print)
    assert [result.settings for result in results] == [{"lr": "0.01"}, {"lr": "1e-9"}]
    assert all(len(result.values) == 2 for result in results)
    assert results[0].mean < results[1].mean
    final_metrics = sweep.retrain(print)
    assert set(final_metrics) >= {"test/top1", "test/loss"}
    assert len(final_metrics["test/top1"]) == 2
    assert {path.name for path in (tmp_path / "sweep").iterdir()} >= {
        *("000-seed0", "000-seed1", "001-seed0", "001-seed1", "000-all-seed0", "000-all-seed1"),
        *("sweep.json", "results.json", "results.csv", "results.md", "retrained.json"),
    }
    content = json.loads((tmp_path / "sweep" / "results.json").read_text())
    assert content["trials"][0]["settings"] == {"lr": "0.01"}
    assert content["trials"][0]["mean"] == results[0].mean
    assert content["best"] == sweep.best_command() == "vitral train tiny --lr 0.01"
    table = list(csv.reader((tmp_path / "sweep" / "results.csv").read_text().splitlines()))
    assert table[0] == ["trial", "lr", "mean val/loss", "deviation", "seed 0", "seed 1", "failure"]
    assert table[1][:3] == ["000", "0.01", f"{results[0].mean:.4f}"]
    text = (tmp_path / "sweep" / "results.md").read_text()
    assert text.splitlines()[2].startswith("| 000 | 0.01 | ")
    assert "\n    vitral train tiny --lr 0.01\n" in text
    final = json.loads((tmp_path / "sweep" / "retrained.json").read_text())
    values = final_metrics["test/top1"]
    assert final["figures"]["test/top1"]["values"] == values
    assert final["figures"]["test/top1"]["mean"] == pytest.approx(np.mean(values))
    assert final["figures"]["test/top1"]["std"] == pytest.approx(np.std(values, ddof=1))


def test_losses_and_calibration_errors_are_better_lower():
    names = ("val/top1", "val/loss", "val/ece", "val/linear")
    lower = {name: sweep_config(metric=name).lower_is_better for name in names}
    assert lower == {"val/top1": False, "val/loss": True, "val/ece": True, "val/linear": False}


def test_the_papers_protocol_selects_with_one_seed_and_retrains_with_three(tmp_path, monkeypatch, open_sweep):
    trained = stub_fit(monkeypatch)
    sweep = open_sweep(tmp_path, sweep_config(grid={"lr": ["0.1", "0.3", "0.2", "0.01"]}, seeds=[0], retrain=[0, 1, 2]))
    sweep.run(print)
    assert sweep.retrain(print)["test/top1"] == [0.3] * 3
    assert trained == [
        *("000-seed0", "001-seed0", "002-seed0", "003-seed0"),
        *("001-all-seed0", "001-all-seed1", "001-all-seed2"),
    ]


def interrupt_at(monkeypatch: pytest.MonkeyPatch, *calls: int) -> list[str]:
    """As `stub_fit`, with Ctrl-C in the calls of these numbers."""
    trained: list[str] = []

    def metrics(config: RunConfig) -> dict[str, float]:
        if len(trained) in calls:
            raise KeyboardInterrupt
        return lr_as_metric(config)

    trained = stub_fit(monkeypatch, metrics)
    return trained


def test_an_interrupted_sweep_resumes(tmp_path, monkeypatch, open_sweep):
    trained = interrupt_at(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        open_sweep(tmp_path, sweep_config()).run(print)
    results = open_sweep(tmp_path, sweep_config()).run(print)
    assert [len(result.values) for result in results] == [2, 2]
    # a finished run of an unfinished trial is opened again, which only evaluates it
    assert trained == ["000-seed0", "000-seed1", "000-seed0", "000-seed1", "001-seed0", "001-seed1"]
    open_sweep(tmp_path, sweep_config()).run(print)
    assert len(trained) == 6


def test_an_interrupted_cross_validation_resumes(tmp_path, monkeypatch, open_sweep):
    """Each combination has a run for each fold and seed."""
    trained = interrupt_at(monkeypatch, 3)
    config = sweep_config(folds=2, seeds=[0, 7], retrain=[1])
    with pytest.raises(KeyboardInterrupt):
        open_sweep(tmp_path, config).run(print)
    sweep = open_sweep(tmp_path, config)
    assert [len(result.values) for result in sweep.run(print)] == [4, 4]
    runs = [f"fold{fold}-seed{seed}" for fold in (1, 2) for seed in (0, 7)]
    # the runs before the interruption are finished, and only evaluated again
    assert trained == [
        f"{trial}-{run}" for trial, count in (("000", 3), ("000", 4), ("001", 4)) for run in runs[:count]
    ]
    assert sweep.retrain(print)["test/top1"] == [0.01]
    assert trained[-1] == "000-all-seed1"
    with pytest.raises(UserError, match="another sweep"):
        open_sweep(tmp_path, replace(config, folds=3))


def test_cross_validation_alone_has_one_trial(tmp_path, monkeypatch, open_sweep):
    folds: list[str | None] = []

    def metrics(config: RunConfig) -> dict[str, float]:
        folds.append(config.data.val_fold)
        return {**lr_as_metric(config), "val/top1": 0.25 * len(folds)}

    stub_fit(monkeypatch, metrics)
    sweep = open_sweep(tmp_path, sweep_config(grid={}, folds=3, seeds=[0], retrain=[1]))
    (result,) = sweep.run(print)
    sweep.retrain(print)
    assert folds == ["1/3", "2/3", "3/3", None]
    assert (result.settings, result.values) == ({}, [0.25, 0.5, 0.75])
    assert sweep.best_command() == "vitral train tiny"


def test_an_interrupted_search_tries_the_same_settings(tmp_path, monkeypatch, open_sweep):
    search = sweep_config(search={"lr": (1e-4, 1e-1, True), "steps": (2, 9, False)}, trials=4, seeds=[0])
    stub_fit(monkeypatch)
    uninterrupted = open_sweep(tmp_path / "uninterrupted", search).run(print)
    trained = interrupt_at(monkeypatch, 2, 3)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            open_sweep(tmp_path / "stopped", search).run(print)
    assert open_sweep(tmp_path / "stopped", search).run(print) == uninterrupted
    assert trained == ["000-seed0", "001-seed0", "001-seed0", "001-seed0", "002-seed0", "003-seed0"]
    assert len({result.settings["lr"] for result in uninterrupted}) == 4
    assert [result.mean for result in uninterrupted] == sorted((result.mean for result in uninterrupted), reverse=True)
    assert all(result.settings["steps"] in set("23456789") for result in uninterrupted), "integers"


def test_more_trials_are_those_of_a_longer_search(tmp_path, monkeypatch, open_sweep):
    trained = stub_fit(monkeypatch)
    search = sweep_config(search={"lr": (1e-4, 1e-1, True)}, seeds=[0], trials=4)
    uninterrupted = open_sweep(tmp_path / "uninterrupted", search).run(print)
    open_sweep(tmp_path / "raised", replace(search, trials=2)).run(print)
    lines: list[str] = []
    assert open_sweep(tmp_path / "raised", search).run(lines.append) == uninterrupted
    assert lines[0].startswith("2 of 4 trials are finished")
    assert "--trials was 2" in lines[0]
    assert len(trained) == 8, "none is trained twice"
    lines.clear()
    assert open_sweep(tmp_path / "raised", replace(search, trials=3)).run(lines.append) == uninterrupted
    (line,) = lines
    assert line.startswith("4 trials are finished, more than --trials 3")
    assert "--trials was 4" in line


def test_new_best_settings_are_retrained_in_their_own_folder(tmp_path, monkeypatch, open_sweep):
    trained = stub_fit(monkeypatch)
    search = sweep_config(search={"lr": (1e-4, 1e-1, True)}, seeds=[0], retrain=[7], trials=1, metric="val/loss")
    first, *_ = open_sweep(tmp_path, search).run(print)
    assert open_sweep(tmp_path, search).retrain(print)["test/top1"] == first.values
    more = open_sweep(tmp_path, replace(search, trials=6))
    best, *_ = more.run(print)
    assert best.number != 0
    assert more.retrain(print)["test/top1"] == best.values
    assert trained[1] == "000-all-seed7"
    assert trained[-1] == f"{best.number:03}-all-seed7"


def test_keys_that_take_integers_only_are_searched_in_integers(tmp_path, monkeypatch, open_sweep):
    stub_fit(monkeypatch)
    search = sweep_config(search={"lr": (1, 2, False), "steps": (2, 9, False)}, trials=4, seeds=[0])
    results = open_sweep(tmp_path, search).run(print)
    assert all(result.settings["steps"] in set("23456789") for result in results)
    assert all(1 < float(result.settings["lr"]) < 2 for result in results), "1:2 includes fractions for other keys"


def test_repeated_settings_are_not_trained_again(tmp_path, monkeypatch, open_sweep):
    trained = stub_fit(monkeypatch)
    lines: list[str] = []
    search = sweep_config(search={"steps": (2, 3, False)}, trials=6, seeds=[0])
    results = open_sweep(tmp_path, search).run(lines.append)
    assert len(results) == 6
    assert len(trained) == 2
    assert sum(line.startswith("same as trial 00") for line in lines) == 4
    assert open_sweep(tmp_path, search).run(print) == results


def test_boolean_keys(tmp_path, monkeypatch, open_sweep):
    flips = []

    def metrics(config: RunConfig) -> dict[str, float]:
        flips.append(config.augment.flip)
        return lr_as_metric(config)

    stub_fit(monkeypatch, metrics)
    sweep = open_sweep(tmp_path, sweep_config(grid={"flip": ["True", "False"]}, seeds=[0]))
    sweep.run(print)
    assert flips == [True, False]
    assert sweep.best_command() in ("vitral train tiny --flip", "vitral train tiny --no-flip")


def test_one_command_at_a_time(tmp_path, open_sweep):
    code = (
        "import fcntl, sys; fcntl.lockf(lock := open('.lock', 'w'), fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdin=pipe, stdout=pipe) as other:
        assert other.stdout
        other.stdout.readline()
        with pytest.raises(ValueError, match="is being trained by another process"):
            open_sweep(tmp_path, sweep_config())
        other.kill()
    open_sweep(tmp_path, sweep_config())


def raise_in_fit(monkeypatch: pytest.MonkeyPatch, error: Exception, *, started: bool = False) -> None:
    """Replaces training by an error, before or after the run has started."""

    def fit(run: Run, config: RunConfig, world: World) -> dict[str, float]:
        run.started = started
        raise error

    monkeypatch.setattr(vitral.sweeps.sweep, "fit", fit)


@pytest.mark.parametrize("error", [Diverged("no number"), OutOfMemory("memory ran out")])
def test_divergence_and_lack_of_memory_are_failed_trials(tmp_path, monkeypatch, open_sweep, error):
    raise_in_fit(monkeypatch, error, started=True)
    sweep = open_sweep(tmp_path, sweep_config(retrain=[0]))
    assert [result.failure for result in sweep.run(print)] == [str(error)] * 2
    assert sweep.best_command() is None
    with pytest.raises(ValueError, match="no trial of the sweep succeeded"):
        sweep.retrain(print)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), UserError("cat.jpg is truncated"), ValueError("a bug")]
)
def test_errors_that_no_settings_cause_stop_the_sweep(tmp_path, monkeypatch, open_sweep, error):
    raise_in_fit(monkeypatch, error, started=True)
    with pytest.raises(type(error), match=str(error.args[-1])):
        open_sweep(tmp_path, sweep_config()).run(print)
    assert not (tmp_path / "results.json").exists(), "no failed trial"


class MainOfTwo(World):
    """The main process of two, which decides alone."""

    def run_on_main(self, act):
        return act()


def test_lack_of_memory_in_one_of_several_processes_ends_the_command_and_it_can_be_resumed(tmp_path, monkeypatch):
    raise_in_fit(monkeypatch, OutOfMemory("memory ran out"))
    with closing(Sweep(tmp_path, sweep_config(), configure, MainOfTwo(size=2))) as sweep:
        with pytest.raises(ValueError, match=r"memory ran out; .* same command"):
            sweep.run(print)
        assert json.loads((tmp_path / "results.json").read_text())["trials"][0]["failure"] == "memory ran out"
        trained = stub_fit(monkeypatch)
        sweep.run(print)
    assert trained == ["001-seed0", "001-seed1"]


def test_a_search_is_a_function_of_the_seed(tmp_path, monkeypatch, open_sweep):
    stub_fit(monkeypatch)
    one, other = (
        open_sweep(tmp_path / name, sweep_config(search={"lr": (1e-4, 1e-1, True)}, trials=3, seeds=[0])).run(print)
        for name in ("one", "other")
    )
    assert [result.settings for result in one] == [result.settings for result in other]
    rates = [float(result.settings["lr"]) for result in one]
    assert len(set(rates)) == 3
    assert all(1e-4 <= rate <= 1e-1 for rate in rates)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": {"size": ["1"]}}, "there is no --size"),
        ({"grid": {}}, "--grid KEY=V1,V2 or --search"),
        ({"seeds": []}, "at least one trial and one seed"),
        ({"trials": 3}, "leave out --trials"),
        ({"grid": {"seed": ["1", "2"]}}, "sets the seed of each run: leave out --seed and use --seeds"),
        ({"recipe": ["tiny", "--seed=3"]}, "leave out --seed and use --seeds"),
        ({"search": {"out": (1, 2, False)}}, "sets the out of each run"),
        ({"metric": "val/top3"}, "metric val/top3: choose --metric from val/top1, val/top5, val/loss"),
    ],
)
def test_wrong_configurations_are_errors_before_any_run(tmp_path, changes, message, open_sweep):
    with pytest.raises(ValueError, match=message):
        open_sweep(tmp_path / "sweep", sweep_config(**changes))
    assert not (tmp_path / "sweep").exists()


def test_settings_are_not_selected_on_the_test_images(tmp_path, open_sweep):
    def without_val(arguments: list[str]) -> RunConfig:
        return replace(configure(arguments), data=tiny_run().data)

    with pytest.raises(ValueError, match=r"give --data\.val-fraction 0\.1"):
        open_sweep(tmp_path / "sweep", sweep_config(), without_val)


def write_images(root: Path, splits: dict[str, int]) -> Path:
    """A folder with splits of two classes, dark and light images."""
    for split, count in splits.items():
        for label in ("dark", "light"):
            (root / split / label).mkdir(parents=True)
            image = Image.new("L", (8, 8), 10 if label == "dark" else 240)
            for number in range(count):
                image.save(root / split / label / f"{split}{number}.png")
    return root


def configure_folder(root: Path) -> Configure:
    """As `configure`, on a folder with splits."""

    def configure_(arguments: list[str]) -> RunConfig:
        train_on_val = "--data.train-on-val" in arguments
        return replace(configure(arguments), data=DataConfig(source="folder", root=root, train_on_val=train_on_val))

    return configure_


def test_a_validation_split_selects_settings_and_is_then_trained_on(tmp_path, open_sweep, capfd):
    """With real training."""
    root = write_images(tmp_path / "photos", {"train": 5, "val": 3, "test": 2})
    sweep = open_sweep(tmp_path / "sweep", sweep_config(seeds=[0], retrain=[3]), configure_folder(root))
    assert all(len(result.values) == 1 for result in sweep.run(print))
    assert set(sweep.retrain(print)) == {f"test/{name}" for name in ("top1", "top5", "loss", "ece")}
    log = capfd.readouterr().err
    assert log.count(" 10 training images") == 2
    assert log.count(" 16 training images") == 1
    final, *_ = (tmp_path / "sweep").glob("*-all-seed3")
    assert read_run_config(Run.open(final)).data.train_on_val


def test_a_trial_that_diverges_is_ranked_last_with_its_error(tmp_path, open_sweep):
    """With real training."""
    root = write_images(tmp_path / "photos", {"train": 5, "val": 3})
    config = sweep_config(grid={"lr": ["1e30", "0.01"]}, seeds=[0])
    results = open_sweep(tmp_path / "sweep", config, configure_folder(root)).run(print)
    assert results[0].settings == {"lr": "0.01"}
    assert results[1].values == []
    assert "at step" in str(results[1].failure)


def test_without_test_images_there_are_no_final_runs(tmp_path, open_sweep):
    root = write_images(tmp_path / "photos", {"train": 2, "val": 2})
    with pytest.raises(ValueError, match=r"photos has no test images, and --retrain"):
        open_sweep(tmp_path / "sweep", sweep_config(retrain=[0]), configure_folder(root))
    assert not (tmp_path / "sweep").exists()
    open_sweep(tmp_path / "sweep", sweep_config(), configure_folder(root))


def test_another_sweep_in_the_folder_is_an_error(tmp_path, open_sweep):
    open_sweep(tmp_path, sweep_config())
    with pytest.raises(ValueError, match="holds another sweep"):
        open_sweep(tmp_path, sweep_config(seeds=[5]))


def test_temporary_files_of_a_killed_sweep_are_ignored(tmp_path, open_sweep):
    (tmp_path / ".sweep.json.17.tmp").write_text("{")
    open_sweep(tmp_path, sweep_config())
    assert not (tmp_path / ".sweep.json.17.tmp").exists()
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(ValueError, match=r"sweep\.json is not the configuration of a sweep"):
        open_sweep(tmp_path, sweep_config())
