"""Sweeps: the best first, a stopped one gone on with, the test images left for the end."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import vitral.studies.sweep
from tiny import tiny_run
from vitral.studies.sweep import Sweep, SweepConfig
from vitral.train.config import RunConfig


def config(**changes: Any) -> SweepConfig:
    values = dict(recipe=["tiny"], grid={"lr": ["0.01", "1e-9"]}, search={}, trials=20, seeds=[0, 1], metric="val/top1")
    return SweepConfig(**{**values, **changes})


def configure(words: list[str]) -> RunConfig:
    """What `vitral train` would make of the words, for two keys."""
    told = dict(zip(words[1::2], words[2::2], strict=True))
    unknown = set(told) - {"--lr", "--steps", "--seed", "--out", "--data.val-share"}
    if unknown:
        raise ValueError(f"there is no {unknown.pop()}")
    run = tiny_run(Path(told["--out"]), optimiser="adamw", steps=int(told.get("--steps", "20")))
    lr = float(told.get("--lr", "0.01"))
    share = 0.2 if told.get("--data.val-share") is None else None
    return replace(
        run, seed=int(told["--seed"]), optim=replace(run.optim, lr=lr), data=replace(run.data, val_share=share)
    )


def said(lines: list[str]):
    return lines.append


def test_the_best_comes_first_and_is_retrained_with_all_images(tmp_path):
    sweep = Sweep(tmp_path / "sweep", config(metric="val/loss"), configure)
    lines: list[str] = []
    results = sweep.run(said(lines))
    assert [result.settings for result in results] == [{"lr": "0.01"}, {"lr": "1e-9"}]
    assert all(len(result.values) == 2 for result in results)
    assert results[0].mean < results[1].mean
    figures = sweep.retrained(said(lines))
    assert set(figures) >= {"test/top1", "test/loss"}
    assert len(figures["test/top1"]) == 2
    assert {path.name for path in (tmp_path / "sweep").iterdir()} >= {
        *("000-seed0", "000-seed1", "001-seed0", "001-seed1", "best-seed0", "best-seed1"),
        *("sweep.json", "results.json", "results.csv", "results.md", "retrained.json"),
    }
    kept = json.loads((tmp_path / "sweep" / "results.json").read_text())
    assert kept["trials"][0]["settings"] == {"lr": "0.01"}
    assert kept["trials"][0]["mean"] == results[0].mean
    table = list(csv.reader((tmp_path / "sweep" / "results.csv").read_text().splitlines()))
    assert table[0] == ["lr", "mean val/loss", "deviation", "seed 0", "seed 1", "failure"]
    assert table[1][:2] == ["0.01", f"{results[0].mean:.4f}"]
    assert (tmp_path / "sweep" / "results.md").read_text().splitlines()[2].startswith("| 0.01 | ")
    assert sweep.best_command() == "vitral train tiny --lr 0.01"


def test_a_stopped_sweep_goes_on(tmp_path, monkeypatch):
    calls: list[str] = []
    fit = vitral.studies.sweep.fit

    def stopped(run, config):
        calls.append(run.path.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fit(run, config)

    monkeypatch.setattr(vitral.studies.sweep, "fit", stopped)
    with pytest.raises(KeyboardInterrupt):
        Sweep(tmp_path, config(), configure).run(print)
    results = Sweep(tmp_path, config(), configure).run(print)
    assert [len(result.values) for result in results] == [2, 2]
    # what was finished is read again at its end, which costs an evaluation
    assert calls == ["000-seed0", "000-seed1", "000-seed0", "000-seed1", "001-seed0", "001-seed1"]
    Sweep(tmp_path, config(), configure).run(print)
    assert len(calls) == 6


def test_a_search_that_was_stopped_draws_what_it_would_have_drawn(tmp_path, monkeypatch):
    search = config(grid={}, search={"lr": (1e-4, 1e-1, True), "steps": (2, 9, False)}, trials=4, seeds=[0])
    monkeypatch.setattr(vitral.studies.sweep, "fit", lambda run, config: {"val/top1": config.optim.lr})
    straight = Sweep(tmp_path / "straight", search, configure).run(print)
    tried = []

    def stopping(run, config):
        tried.append(run.path.name)
        if len(tried) in (2, 3):
            raise KeyboardInterrupt
        return {"val/top1": config.optim.lr}

    monkeypatch.setattr(vitral.studies.sweep, "fit", stopping)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            Sweep(tmp_path / "stopped", search, configure).run(print)
    assert Sweep(tmp_path / "stopped", search, configure).run(print) == straight
    assert tried == ["000-seed0", "001-seed0", "001-seed0", "001-seed0", "002-seed0", "003-seed0"]
    assert len({result.settings["lr"] for result in straight}) == 4
    assert [result.mean for result in straight] == sorted((result.mean for result in straight), reverse=True)
    assert all(result.settings["steps"] in set("23456789") for result in straight), "whole numbers stay whole"


def test_a_full_disk_stops_the_sweep_and_is_no_failed_trial(tmp_path, monkeypatch):
    def full(run, config):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(vitral.studies.sweep, "fit", full)
    with pytest.raises(OSError, match="No space"):
        Sweep(tmp_path, config(), configure).run(print)
    assert not (tmp_path / "results.json").exists()


def test_a_trial_that_fails_is_listed_last_with_its_reason(tmp_path):
    results = Sweep(tmp_path, config(grid={"lr": ["1e30", "0.01"]}, seeds=[0]), configure).run(print)
    assert results[0].settings == {"lr": "0.01"}
    assert results[1].values == []
    assert "at step" in str(results[1].failure)


def test_a_search_is_the_same_for_the_same_seed(tmp_path):
    searches = [
        Sweep(tmp_path / name, config(grid={}, search={"lr": (1e-4, 1e-1, True)}, trials=3, seeds=[0]), configure).run(
            print
        )
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
        ({"metric": "val/top3"}, "do not measure val/top3: --metric takes one of val/top1, val/top5, val/loss"),
    ],
)
def test_what_is_wrong_is_told_before_any_run(tmp_path, changes, reason):
    with pytest.raises(ValueError, match=reason):
        Sweep(tmp_path / "sweep", config(**changes), configure)
    assert not (tmp_path / "sweep").exists()


def test_the_test_images_are_not_for_choosing(tmp_path):
    def without(words: list[str]) -> RunConfig:
        return replace(configure(words), data=tiny_run().data)

    with pytest.raises(ValueError, match=r"give --data\.val-share 0\.1"):
        Sweep(tmp_path / "sweep", config(), without)


def test_another_sweep_is_not_gone_on_with(tmp_path):
    Sweep(tmp_path, config(), configure)
    with pytest.raises(ValueError, match="holds another sweep"):
        Sweep(tmp_path, config(seeds=[5]), configure)
