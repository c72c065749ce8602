"""Trackers take every figure once, go on after a crash with the run they began, and never stop a run."""

import json
import sqlite3
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tiny import tiny_run
from vitral.runs.trackers.trackers import TRACKERS, Trackers, names_of
from vitral.train.fit import fit
from vitral.train.reporter import Reporter
from vitral.train.run import Run


def tracked(folder: Path, track: str, *, step: int, records: list[tuple[int, dict[str, float]]]) -> list[str]:
    """Hands figures to trackers as a run does; gives their complaints."""
    complaints: list[str] = []
    trackers = Trackers(track)
    trackers.start(folder, {"seed": 5}, step=step, warn=complaints.append)
    for at, figures in records:
        trackers.write(at, figures)
    trackers.finish()
    return complaints


def test_what_a_setting_names(monkeypatch):
    assert names_of("tensorboard, wandb,trackio") == tuple(TRACKERS)
    assert names_of("wandb,wandb") == ("wandb",)
    assert names_of("none") == ()
    assert names_of("auto") == ("tensorboard",)
    monkeypatch.setattr("vitral.runs.trackers.trackers.find_spec", lambda _: None)
    assert names_of("auto") == ()
    with pytest.raises(ValueError, match=r"^wandb is not installed: pip install 'vitral\[track\]'"):
        Trackers("wandb")


@pytest.mark.parametrize("track", ["wndb", "", "tensorboard,", "auto,wandb"])
def test_what_is_no_tracker_is_refused(track):
    with pytest.raises(ValueError, match=r"^track takes tensorboard, wandb, trackio, several with commas between"):
        tiny_run(track=track)


def test_tensorboard_forgets_what_a_crashed_run_wrote_beyond_its_checkpoint(tmp_path):
    first = [(step, {"train/loss": float(step), "lr": 0.25}) for step in (10, 20, 30)]
    assert tracked(tmp_path, "tensorboard", step=0, records=first) == []
    assert tracked(tmp_path, "tensorboard", step=20, records=[(30, {"train/loss": -1.0})]) == []
    assert len(list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))) == 2
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in board.Scalars("train/loss")] == [(10, 10), (20, 20), (30, -1)]
    assert board.Scalars("lr")[0].value == 0.25


def test_weights_and_biases_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert tracked(tmp_path, "wandb", step=0, records=[(10, {"train/loss": 0.5})]) == []
    name = (tmp_path / "wandb" / "run_id").read_text()
    assert tracked(tmp_path, "wandb", step=10, records=[(20, {"train/loss": 0.25})]) == []
    # both parts of the run are of one run there
    assert len(list((tmp_path / "wandb").glob(f"offline-run-*/run-{name}.wandb"))) >= 1
    assert {path.name for path in (tmp_path / "wandb").glob("offline-run-*/*.wandb")} == {f"run-{name}.wandb"}


def test_trackio_goes_on_with_the_same_run(tmp_path, monkeypatch, capfd):
    import trackio.sqlite_storage
    import trackio.utils

    for module in (trackio, trackio.utils, trackio.sqlite_storage):
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "base")
    assert tracked(tmp_path, "trackio", step=0, records=[(10, {"train/loss": 0.5})]) == []
    assert tracked(tmp_path, "trackio", step=10, records=[(20, {"train/loss": 0.25})]) == []
    assert capfd.readouterr().out == ""
    with sqlite3.connect(tmp_path / "base" / "vitral.db") as base:
        rows = base.execute("select run_name, step, metrics from metrics order by step").fetchall()
    base.close()
    assert {name for name, _, _ in rows} == {(tmp_path / "trackio_run").read_text()}
    assert [(step, json.loads(metrics)["train/loss"]) for _, step, metrics in rows] == [(10, 0.5), (20, 0.25)]


class Failing:
    """Takes figures until the network goes."""

    def __init__(self, *, takes: int) -> None:
        self.takes = takes
        self.taken: list[tuple[int, dict[str, float]]] = []
        self.finished = False

    def start(self, run: Path, config: dict[str, Any], *, step: int) -> None:
        if self.takes < 0:
            raise ConnectionError("no route\nto host")

    def write(self, step: int, figures: dict[str, float]) -> None:
        if len(self.taken) == self.takes:
            raise TimeoutError
        self.taken.append((step, figures))

    def finish(self) -> None:
        self.finished = True


def replace_tracker(monkeypatch: pytest.MonkeyPatch, name: str, tracker: Failing) -> None:
    """Puts another in place of a tracker."""
    module = ModuleType(name)
    setattr(module, TRACKERS[name], lambda: tracker)
    monkeypatch.setitem(sys.modules, f"vitral.runs.trackers.{name}", module)


@pytest.mark.parametrize(("takes", "reason"), [(-1, "no route to host"), (1, "TimeoutError")])
def test_a_tracker_that_fails_is_named_once_and_the_run_goes_on(tmp_path, monkeypatch, capsys, takes, reason):
    fake, good = Failing(takes=takes), Failing(takes=999)
    replace_tracker(monkeypatch, "wandb", fake)
    replace_tracker(monkeypatch, "trackio", good)
    run = Run.create(config := tiny_run(tmp_path / "run", track="wandb,trackio"))
    try:
        fit(run, config)
    finally:
        run.close()
    said = f"wandb gets no more figures ({reason}); the run goes on, and metrics.jsonl has them all\n"
    assert capsys.readouterr().err.count(said) == 1
    assert len(fake.taken) == max(takes, 0)
    assert not fake.finished
    assert good.finished
    written = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    assert [{"step": step, **figures} for step, figures in good.taken] == written
    assert not (run.path / "tensorboard").exists()


def test_a_step_measured_again_goes_to_trackers_once(tmp_path, monkeypatch):
    good = Failing(takes=99)
    replace_tracker(monkeypatch, "trackio", good)
    (tmp_path / "metrics.jsonl").write_text('{"step": 20, "test/top1": 0.75}\n')
    with Reporter(tmp_path, step=20, total=20, trackers=Trackers("trackio")) as reporter:
        reporter._write(20, {"test/top1": 0.75})
        reporter._write(20, {"val/top1": 0.5})
    assert good.taken == [(20, {"val/top1": 0.5})]
