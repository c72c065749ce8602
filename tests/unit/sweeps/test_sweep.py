"""Sweeps: the best first, a stopped one gone on with, the test images left for the end."""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
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
from vitral.sweeps.config import SweepConfig
from vitral.sweeps.sweep import Configure, Sweep
from vitral.train.config import RunConfig
from vitral.train.reporter import Diverged
from vitral.train.resource_errors import OutOfMemory
from vitral.train.run import Run


def config(**changes: Any) -> SweepConfig:
    if "search" in changes:
        changes = {"grid": {}, **changes}
    values = dict(recipe=["tiny"], grid={"lr": ["0.01", "1e-9"]}, seeds=[0, 1], metric="val/top1")
    return SweepConfig(**{**values, **changes})


def configure(words: list[str]) -> RunConfig:
    """What `vitral train` would make of the words, for a few keys."""
    on = {"--flip", "--no-flip", "--data.train-on-val"}
    told = {word: "" for word in words if word in on}
    rest = [word for word in words[1:] if word not in on]
    if len(rest) % 2:
        raise ValueError("a flag takes no value")
    told |= zip(rest[::2], rest[1::2], strict=True)
    if unknown := set(told) - on - {"--lr", "--steps", "--seed", "--out", "--data.val-share"}:
        raise ValueError(f"there is no {unknown.pop()}")
    run = tiny_run(Path(told.get("--out", "none")), optimiser="adamw", steps=int(told.get("--steps", "6")))
    share = 0.2 if told.get("--data.val-share") is None else None
    return replace(
        run,
        seed=int(told.get("--seed", "0")),
        optim=replace(run.optim, lr=float(told.get("--lr", "0.01"))),
        augment=replace(run.augment, flip="--no-flip" not in told),
        data=replace(run.data, val_share=share),
    )


class Opened(Protocol):
    def __call__(self, folder: Path, config: SweepConfig, configure: Configure = configure) -> Sweep: ...


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Opens sweeps, closed again when the test ends."""
    sweeps = []

    def opened(folder: Path, config: SweepConfig, configure: Configure = configure) -> Sweep:
        sweeps.append(Sweep(folder, config, configure))
        return sweeps[-1]

    yield opened
    for sweep in sweeps:
        sweep.close()


def quick(monkeypatch: pytest.MonkeyPatch, trained: list[str]) -> None:
    """Runs that end at once with their rate as accuracy."""

    def fit(run, config, world):
        trained.append(run.path.name)
        return dict.fromkeys(("val/top1", "val/loss", "test/top1"), config.optim.lr)

    monkeypatch.setattr(vitral.sweeps.sweep, "fit", fit)


def test_the_best_comes_first_and_is_retrained_with_all_images(tmp_path, opened):
    sweep = opened(tmp_path / "sweep", config(metric="val/loss", retrain=[0, 1]))
    results = sweep.run(print)
    assert [result.settings for result in results] == [{"lr": "0.01"}, {"lr": "1e-9"}]
    assert all(len(result.values) == 2 for result in results)
    assert results[0].mean < results[1].mean
    figures = sweep.retrained(print)
    assert set(figures) >= {"test/top1", "test/loss"}
    assert len(figures["test/top1"]) == 2
    assert {path.name for path in (tmp_path / "sweep").iterdir()} >= {
        *("000-seed0", "000-seed1", "001-seed0", "001-seed1", "000-all-seed0", "000-all-seed1"),
        *("sweep.json", "results.json", "results.csv", "results.md", "retrained.json"),
    }
    kept = json.loads((tmp_path / "sweep" / "results.json").read_text())
    assert kept["trials"][0]["settings"] == {"lr": "0.01"}
    assert kept["trials"][0]["mean"] == results[0].mean
    assert kept["best"] == sweep.best_command() == "vitral train tiny --lr 0.01"
    table = list(csv.reader((tmp_path / "sweep" / "results.csv").read_text().splitlines()))
    assert table[0] == ["trial", "lr", "mean val/loss", "deviation", "seed 0", "seed 1", "failure"]
    assert table[1][:3] == ["000", "0.01", f"{results[0].mean:.4f}"]
    text = (tmp_path / "sweep" / "results.md").read_text()
    assert text.splitlines()[2].startswith("| 000 | 0.01 | ")
    assert "\n    vitral train tiny --lr 0.01\n" in text
    final = json.loads((tmp_path / "sweep" / "retrained.json").read_text())
    values = figures["test/top1"]
    assert final["figures"]["test/top1"]["values"] == values
    assert final["figures"]["test/top1"]["mean"] == pytest.approx(np.mean(values))
    assert final["figures"]["test/top1"]["std"] == pytest.approx(np.std(values, ddof=1))


def test_losses_and_errors_of_calibration_are_better_lower():
    lower = {name: config(metric=name).lower_is_better for name in ("val/top1", "val/loss", "val/ece", "val/linear")}
    assert lower == {"val/top1": False, "val/loss": True, "val/ece": True, "val/linear": False}


def test_the_papers_protocol_chooses_with_one_seed_and_ends_with_three(tmp_path, monkeypatch, opened):
    trained: list[str] = []
    quick(monkeypatch, trained)
    sweep = opened(tmp_path, config(grid={"lr": ["0.1", "0.3", "0.2", "0.01"]}, seeds=[0], retrain=[0, 1, 2]))
    sweep.run(print)
    assert sweep.retrained(print)["test/top1"] == [0.3] * 3
    assert trained == [
        *("000-seed0", "001-seed0", "002-seed0", "003-seed0"),
        *("001-all-seed0", "001-all-seed1", "001-all-seed2"),
    ]


def test_a_stopped_sweep_goes_on(tmp_path, monkeypatch, opened):
    calls: list[str] = []
    fit = vitral.sweeps.sweep.fit

    def stopped(run, config, world):
        calls.append(run.path.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fit(run, config, world)

    monkeypatch.setattr(vitral.sweeps.sweep, "fit", stopped)
    with pytest.raises(KeyboardInterrupt):
        opened(tmp_path, config()).run(print)
    results = opened(tmp_path, config()).run(print)
    assert [len(result.values) for result in results] == [2, 2]
    # what was finished is read again at its end, which costs an evaluation
    assert calls == ["000-seed0", "000-seed1", "000-seed0", "000-seed1", "001-seed0", "001-seed1"]
    opened(tmp_path, config()).run(print)
    assert len(calls) == 6


def test_a_search_that_was_stopped_draws_what_it_would_have_drawn(tmp_path, monkeypatch, opened):
    search = config(search={"lr": (1e-4, 1e-1, True), "steps": (2, 9, False)}, trials=4, seeds=[0])
    monkeypatch.setattr(vitral.sweeps.sweep, "fit", lambda run, config, world: {"val/top1": config.optim.lr})
    straight = opened(tmp_path / "straight", search).run(print)
    tried = []

    def stopping(run, config, world):
        tried.append(run.path.name)
        if len(tried) in (2, 3):
            raise KeyboardInterrupt
        return {"val/top1": config.optim.lr}

    monkeypatch.setattr(vitral.sweeps.sweep, "fit", stopping)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            opened(tmp_path / "stopped", search).run(print)
    assert opened(tmp_path / "stopped", search).run(print) == straight
    assert tried == ["000-seed0", "001-seed0", "001-seed0", "001-seed0", "002-seed0", "003-seed0"]
    assert len({result.settings["lr"] for result in straight}) == 4
    assert [result.mean for result in straight] == sorted((result.mean for result in straight), reverse=True)
    assert all(result.settings["steps"] in set("23456789") for result in straight), "whole numbers stay whole"


def test_more_trials_are_those_that_a_longer_search_would_have_had(tmp_path, monkeypatch, opened):
    trained: list[str] = []
    quick(monkeypatch, trained)
    search = config(search={"lr": (1e-4, 1e-1, True)}, seeds=[0], trials=4)
    straight = opened(tmp_path / "straight", search).run(print)
    opened(tmp_path / "raised", replace(search, trials=2)).run(print)
    lines: list[str] = []
    assert opened(tmp_path / "raised", search).run(lines.append) == straight
    assert lines[0] == "2 of 4 trials are over, where --trials was 2 before"
    assert len(trained) == 8, "none is trained twice"
    lines.clear()
    assert opened(tmp_path / "raised", replace(search, trials=3)).run(lines.append) == straight
    assert lines == ["4 trials are over, more than the 3 asked for, where --trials was 4 before: none is dropped"]


def test_a_better_trial_that_comes_later_is_retrained_by_itself(tmp_path, monkeypatch, opened):
    trained: list[str] = []
    quick(monkeypatch, trained)
    search = config(search={"lr": (1e-4, 1e-1, True)}, seeds=[0], retrain=[7], trials=1, metric="val/loss")
    first, *_ = opened(tmp_path, search).run(print)
    assert opened(tmp_path, search).retrained(print)["test/top1"] == first.values
    more = opened(tmp_path, replace(search, trials=6))
    best, *_ = more.run(print)
    assert best.number != 0
    assert more.retrained(print)["test/top1"] == best.values
    assert trained[1] == "000-all-seed7"
    assert trained[-1] == f"{best.number:03}-all-seed7"


def test_whole_numbers_are_drawn_of_keys_that_take_no_others(tmp_path, monkeypatch, opened):
    quick(monkeypatch, [])
    search = config(search={"lr": (1, 2, False), "steps": (2, 9, False)}, trials=4, seeds=[0])
    results = opened(tmp_path, search).run(print)
    assert all(result.settings["steps"] in set("23456789") for result in results)
    assert all(1 < float(result.settings["lr"]) < 2 for result in results), "what is written as 1:2 has more between"


def test_what_is_drawn_again_is_not_trained_again(tmp_path, monkeypatch, opened):
    trained: list[str] = []
    quick(monkeypatch, trained)
    lines: list[str] = []
    search = config(search={"steps": (2, 3, False)}, trials=6, seeds=[0])
    results = opened(tmp_path, search).run(lines.append)
    assert len(results) == 6
    assert len(trained) == 2
    assert sum(line.startswith("as trial 00") for line in lines) == 4
    assert opened(tmp_path, search).run(print) == results


def test_what_is_turned_on_and_off(tmp_path, opened):
    sweep = opened(tmp_path, config(grid={"flip": ["True", "False"]}, seeds=[0]))
    sweep.run(print)
    assert [Run.open(tmp_path / f"{number:03}-seed0")[1].augment.flip for number in (0, 1)] == [True, False]
    assert sweep.best_command() in ("vitral train tiny --flip", "vitral train tiny --no-flip")


def test_one_command_at_a_time(tmp_path, opened):
    code = (
        "import fcntl, sys; fcntl.lockf(lock := open('.lock', 'w'), fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdin=pipe, stdout=pipe) as other:
        assert other.stdout
        other.stdout.readline()
        with pytest.raises(ValueError, match="is being trained by another process"):
            opened(tmp_path, config())
        other.kill()
    opened(tmp_path, config())


def test_a_full_disk_stops_the_sweep_and_is_no_failed_trial(tmp_path, monkeypatch, opened):
    def full(run, config, world):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(vitral.sweeps.sweep, "fit", full)
    with pytest.raises(OSError, match="No space"):
        opened(tmp_path, config()).run(print)
    assert not (tmp_path / "results.json").exists()


def test_a_trial_that_fails_is_listed_last_with_its_reason(tmp_path, opened):
    results = opened(tmp_path, config(grid={"lr": ["1e30", "0.01"]}, seeds=[0])).run(print)
    assert results[0].settings == {"lr": "0.01"}
    assert results[1].values == []
    assert "at step" in str(results[1].failure)


@pytest.mark.parametrize("error", [Diverged("no number"), OutOfMemory("memory ran out")])
def test_what_its_settings_bring_about_is_a_trials_failure(tmp_path, monkeypatch, opened, error):
    def failing(run, config, world):
        run.begun = True
        raise error

    monkeypatch.setattr(vitral.sweeps.sweep, "fit", failing)
    sweep = opened(tmp_path, config(retrain=[0]))
    assert [result.failure for result in sweep.run(print)] == [str(error)] * 2
    assert sweep.best_command() is None
    with pytest.raises(ValueError, match="no trial of the sweep succeeded"):
        sweep.retrained(print)


class Pair(World):
    """The first of two processes, where the second agrees."""

    def run_on_main(self, act):
        return act()


def test_one_of_several_processes_without_memory_ends_the_sweep_which_goes_on_behind_it(tmp_path, monkeypatch):
    def failing(run, config, world):
        raise OutOfMemory("memory ran out")

    monkeypatch.setattr(vitral.sweeps.sweep, "fit", failing)
    with closing(Sweep(tmp_path, config(), configure, Pair(size=2))) as sweep:
        with pytest.raises(ValueError, match="memory ran out; the same command goes on with the sweep"):
            sweep.run(print)
        assert json.loads((tmp_path / "results.json").read_text())["trials"][0]["failure"] == "memory ran out"
        trained: list[str] = []
        quick(monkeypatch, trained)
        sweep.run(print)
    assert trained == ["001-seed0", "001-seed1"]


def test_what_no_settings_change_stops_the_sweep_and_is_no_failed_trial(tmp_path, monkeypatch, opened):
    def broken(run, config, world):
        run.begun = True
        raise ValueError("cat.jpg is truncated")

    monkeypatch.setattr(vitral.sweeps.sweep, "fit", broken)
    with pytest.raises(ValueError, match=r"cat\.jpg is truncated"):
        opened(tmp_path, config()).run(print)
    assert not (tmp_path / "results.json").exists()


def test_a_search_is_the_same_for_the_same_seed(tmp_path, monkeypatch, opened):
    quick(monkeypatch, [])
    searches = [
        opened(tmp_path / name, config(search={"lr": (1e-4, 1e-1, True)}, trials=3, seeds=[0])).run(print)
        for name in ("one", "other")
    ]
    assert [result.settings for result in searches[0]] == [result.settings for result in searches[1]]
    rates = [float(result.settings["lr"]) for result in searches[0]]
    assert len(set(rates)) == 3
    assert all(1e-4 <= rate <= 1e-1 for rate in rates)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"grid": {"size": ["1"]}}, "there is no --size"),
        ({"grid": {}}, "a sweep tries --grid KEY=V1,V2 or --search"),
        ({"seeds": []}, "a sweep needs a trial and a seed at least"),
        ({"trials": 3}, "a grid tries all its combinations: leave out --trials"),
        ({"grid": {"seed": ["1", "2"]}}, "a sweep gives each run its seed itself: leave --seed to --seeds"),
        ({"recipe": ["tiny", "--seed=3"]}, "leave --seed to --seeds"),
        ({"search": {"out": (1, 2, False)}}, "a sweep gives each run its out itself"),
        ({"metric": "val/top3"}, "do not measure val/top3: --metric takes one of val/top1, val/top5, val/loss"),
    ],
)
def test_what_is_wrong_is_told_before_any_run(tmp_path, changes, reason, opened):
    with pytest.raises(ValueError, match=reason):
        opened(tmp_path / "sweep", config(**changes))
    assert not (tmp_path / "sweep").exists()


def test_the_test_images_are_not_for_choosing(tmp_path, opened):
    def without(words: list[str]) -> RunConfig:
        return replace(configure(words), data=tiny_run().data)

    with pytest.raises(ValueError, match=r"give --data\.val-share 0\.1"):
        opened(tmp_path / "sweep", config(), without)


def folder_of_digits(root: Path, splits: dict[str, int]) -> Path:
    """Images of two classes in folders of splits."""
    for split, count in splits.items():
        for label in ("dark", "light"):
            (root / split / label).mkdir(parents=True)
            image = Image.new("L", (8, 8), 10 if label == "dark" else 240)
            for number in range(count):
                image.save(root / split / label / f"{split}{number}.png")
    return root


def own_splits(root: Path) -> Configure:
    """Runs on a folder's own splits."""

    def configured(words: list[str]) -> RunConfig:
        run = configure(words)
        return replace(run, data=DataConfig(source="folder", root=root, train_on_val="--data.train-on-val" in words))

    return configured


def test_a_validation_split_of_the_datas_own_is_chosen_by_and_then_trained_on(tmp_path, opened, capfd):
    root = folder_of_digits(tmp_path / "photos", {"train": 5, "val": 3, "test": 2})
    sweep = opened(tmp_path / "sweep", config(seeds=[0], retrain=[3]), own_splits(root))
    assert all(len(result.values) == 1 for result in sweep.run(print))
    figures = sweep.retrained(print)
    assert set(figures) == {f"test/{name}" for name in ("top1", "top5", "loss", "ece")}
    said = capfd.readouterr().err
    assert said.count(" 10 training images") == 2
    assert said.count(" 16 training images") == 1
    final, *_ = (tmp_path / "sweep").glob("*-all-seed3")
    assert Run.open(final)[1].data.train_on_val


def test_without_test_images_nothing_is_retrained(tmp_path, opened):
    root = folder_of_digits(tmp_path / "photos", {"train": 2, "val": 2})
    with pytest.raises(ValueError, match=r"photos has no test images to measure by what --retrain trains on"):
        opened(tmp_path / "sweep", config(retrain=[0]), own_splits(root))
    assert not (tmp_path / "sweep").exists()
    opened(tmp_path / "sweep", config(), own_splits(root))


def test_another_sweep_is_not_gone_on_with(tmp_path, opened):
    opened(tmp_path, config())
    with pytest.raises(ValueError, match="holds another sweep"):
        opened(tmp_path, config(seeds=[5]))


def test_what_a_killed_one_left_before_it_began_is_no_other_thing(tmp_path, opened):
    (tmp_path / ".sweep.json.17.tmp").write_text("{")
    opened(tmp_path, config())
    assert not (tmp_path / ".sweep.json.17.tmp").exists()
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(ValueError, match=r"sweep\.json is not what a sweep writes"):
        opened(tmp_path, config())
