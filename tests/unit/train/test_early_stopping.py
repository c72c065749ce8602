"""Early stopping: where a run ends, which model it keeps, and that a resumed run ends alike."""

from dataclasses import replace
from pathlib import Path

import pytest

from tiny import tiny_run
from vitral.runs.metrics import read_metrics
from vitral.runs.run import Run
from vitral.train.config import RunConfig
from vitral.train.fit import fit
from vitral.train.interrupts import Interrupted
from vitral.train.session import Session
from vitral.weights.folder import load_model


def run_of(out: Path, **train: object) -> RunConfig:
    """A run whose weights do not change after six steps, so that no later evaluation is better."""
    run = tiny_run(out, **{"evaluate": "2steps", "steps": 40, "patience": 3, "ema": None, **train})
    schedule = replace(run.schedule, warmup="0steps", decay="stair", stairs=("6steps",), multipliers=(0.0,))
    return replace(run, schedule=schedule, data=replace(run.data, val_fraction=0.2))


def train(config: RunConfig, *, resume: bool = False) -> dict[str, float]:
    run = Run.open(config.out) if resume else Run.create(config.out, recipe=config.recipe)
    try:
        return fit(run, config)
    finally:
        run.close()


def scores(folder: Path) -> dict[int, float]:
    return {
        record["step"]: record["val/top1"] for record in read_metrics(folder / "metrics.jsonl") if "val/top1" in record
    }


def test_a_run_ends_with_its_best_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = train(run_of(tmp_path / "run"))
    found = scores(tmp_path / "run")
    best = max(found, key=lambda step: (found[step], -step))
    assert max(found) == best + 6 < 40, "it ended three evaluations after the best"
    card = load_model(tmp_path / "run").card
    assert card.metrics == metrics
    assert card.provenance["best_step"] == best
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (
        tmp_path / "run" / "best" / "model.safetensors"
    ).read_bytes()
    assert f"of step {best} in 3 evaluations" in " ".join(capsys.readouterr().err.split())


def test_a_run_that_was_interrupted_ends_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(run_of(tmp_path / "whole"))
    config = run_of(tmp_path / "parts")
    step = Session.train_step
    for stop in (3, 7):

        def interrupted(self: Session, *args: object, stop: int = stop, **options: object) -> object:
            if self.step == stop:
                raise Interrupted(2)
            return step(self, *args, **options)

        monkeypatch.setattr(Session, "train_step", interrupted)
        with pytest.raises(Interrupted):
            train(config, resume=(tmp_path / "parts").exists())
    monkeypatch.setattr(Session, "train_step", step)
    train(config, resume=True)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert scores(parts) == scores(whole)
    assert (parts / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    before = read_metrics(parts / "metrics.jsonl")
    train(config, resume=True)  # of a run that has ended: no step is taken
    assert read_metrics(parts / "metrics.jsonl") == before


def test_what_does_not_allow_early_stopping(tmp_path: Path) -> None:
    config = run_of(tmp_path / "run")
    with pytest.raises(ValueError, match=r"hold some out with --data\.val-fraction 0\.1"):
        train(replace(config, data=replace(config.data, val_fraction=None)))
    with pytest.raises(ValueError, match=r"give --train\.evaluate an interval"):
        train(replace(config, train=replace(config.train, evaluate="0steps")))
    with pytest.raises(ValueError, match=r"--train\.patience must be at least 1"):
        run_of(tmp_path / "run", patience=0)
