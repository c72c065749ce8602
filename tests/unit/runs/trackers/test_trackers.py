"""Trackers get each metric once, continue their run after a crash, and never stop training."""

import json
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tiny import tiny_run
from vitral.runs.reporter import Reporter
from vitral.runs.run import Run
from vitral.runs.trackers.trackers import TRACKERS, Trackers, names_of
from vitral.train.fit import fit
from vitral.train.profiling.profiler import Profiler
from vitral.train.profiling.setup import Setup
from vitral.train.profiling.stopwatch import Stopwatch


def tracked(folder: Path, track: str, *, step: int, records: list[tuple[int, dict[str, float]]]) -> list[str]:
    """Logs metrics to trackers as a run does; returns their warnings."""
    warnings: list[str] = []
    trackers = Trackers(track)
    trackers.start(folder, {"seed": 5}, step=step, warn=warnings.append)
    for at, figures in records:
        trackers.write(at, figures)
    trackers.finish()
    return warnings


def test_names_in_a_setting(monkeypatch):
    assert names_of("tensorboard, wandb,trackio") == tuple(TRACKERS)
    assert names_of("wandb,wandb") == ("wandb",)
    assert names_of("none") == ()
    assert names_of("auto") == ("tensorboard",)
    monkeypatch.setattr("vitral.runs.trackers.trackers.find_spec", lambda _: None)
    assert names_of("auto") == ()
    with pytest.raises(ValueError, match=r"^wandb is not installed: pip install 'vitral\[track\]'"):
        Trackers("wandb")


@pytest.mark.parametrize("track", ["wndb", "", "tensorboard,", "auto,wandb"])
def test_unknown_trackers_raise(track):
    with pytest.raises(ValueError, match=r"^train\.track .*tensorboard, wandb, trackio"):
        tiny_run(track=track)


def test_tensorboard_drops_steps_after_the_checkpoint(tmp_path):
    first = [(step, {"train/loss": float(step), "lr": 0.25}) for step in (10, 20, 30)]
    assert tracked(tmp_path, "tensorboard", step=0, records=first) == []
    assert tracked(tmp_path, "tensorboard", step=20, records=[(30, {"train/loss": -1.0})]) == []
    assert len(list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))) == 2
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in board.Scalars("train/loss")] == [(10, 10), (20, 20), (30, -1)]
    assert board.Scalars("lr")[0].value == 0.25


def test_weights_and_biases_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert tracked(tmp_path, "wandb", step=0, records=[(10, {"train/loss": 0.5})]) == []
    name = (tmp_path / "wandb" / "run_id").read_text()
    assert tracked(tmp_path, "wandb", step=10, records=[(20, {"train/loss": 0.25})]) == []
    # both parts belong to one run
    assert len(list((tmp_path / "wandb").glob(f"offline-run-*/run-{name}.wandb"))) >= 1
    assert {path.name for path in (tmp_path / "wandb").glob("offline-run-*/*.wandb")} == {f"run-{name}.wandb"}


def test_trackio_resumes_the_same_run(tmp_path, monkeypatch, capfd):
    import trackio.sqlite_storage
    import trackio.utils

    for module in (trackio, trackio.utils, trackio.sqlite_storage):
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "base")
    assert tracked(tmp_path, "trackio", step=0, records=[(10, {"train/loss": 0.5})]) == []
    assert tracked(tmp_path, "trackio", step=10, records=[(20, {"train/loss": 0.25})]) == []
    assert capfd.readouterr().out == ""
    with sqlite3.connect(tmp_path / "base" / "vitral.db") as database:
        rows = database.execute("select run_name, step, metrics from metrics order by step").fetchall()
    database.close()
    assert {name for name, _, _ in rows} == {(tmp_path / "trackio_run").read_text()}
    assert [(step, json.loads(metrics)["train/loss"]) for _, step, metrics in rows] == [(10, 0.5), (20, 0.25)]


class Failing:
    """A tracker that fails after some records, or at the start."""

    def __init__(self, *, fails_after: int) -> None:
        self.fails_after = fails_after
        self.received: list[tuple[int, dict[str, float]]] = []
        self.finished = False

    def start(self, run: Path, config: dict[str, Any], *, step: int) -> None:
        if self.fails_after < 0:
            raise ConnectionError("no route\nto host")

    def write(self, step: int, figures: dict[str, float]) -> None:
        if len(self.received) == self.fails_after:
            raise TimeoutError
        self.received.append((step, figures))

    def finish(self) -> None:
        self.finished = True


def replace_tracker(monkeypatch: pytest.MonkeyPatch, name: str, tracker: Failing) -> None:
    """Replaces a tracker."""
    module = ModuleType(name)
    setattr(module, TRACKERS[name], lambda: tracker)
    monkeypatch.setitem(sys.modules, f"vitral.runs.trackers.{name}", module)


@pytest.mark.parametrize(("fails_after", "reason"), [(-1, "no route to host"), (1, "TimeoutError")])
def test_a_failing_tracker_is_reported_once_and_training_continues(tmp_path, monkeypatch, capsys, fails_after, reason):
    fake, good = Failing(fails_after=fails_after), Failing(fails_after=999)
    replace_tracker(monkeypatch, "wandb", fake)
    replace_tracker(monkeypatch, "trackio", good)
    config = tiny_run(tmp_path / "run", track="wandb,trackio")
    run = Run.create(config.out, recipe=config.recipe)
    try:
        fit(run, config)
    finally:
        run.close()
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("wandb ")]
    assert len(warnings) == 1
    assert f"({reason})" in warnings[0]
    assert len(fake.received) == max(fails_after, 0)
    assert not fake.finished
    assert good.finished
    written = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    assert [{"step": step, **figures} for step, figures in good.received] == written
    assert not (run.path / "tensorboard").exists()


@dataclass(frozen=True)
class Top1:
    """An evaluation with one metric."""

    top1: float
    unreadable: tuple[str, ...] = ()

    def metrics(self) -> Iterator[tuple[str, float]]:
        yield "top1", self.top1

    def headline(self) -> str:
        return f"accuracy {self.top1:.2%}"


def test_trackers_get_a_repeated_evaluation_once(tmp_path, monkeypatch):
    good = Failing(fails_after=99)
    replace_tracker(monkeypatch, "trackio", good)
    (tmp_path / "metrics.jsonl").write_text('{"step": 20, "test/top1": 0.75}\n')
    speed = Profiler(Stopwatch(torch.device("cpu")), Setup())
    with Reporter(tmp_path, step=20, total=20, speed=speed, trackers=Trackers("trackio")) as reporter:
        reporter.log_eval(20, "test", Top1(0.75))
        reporter.log_eval(20, "val", Top1(0.5))
    assert good.received == [(20, {"val/top1": 0.5})]
