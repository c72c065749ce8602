"""Runs that learn several labels or a number resume exactly, and count for nothing what cannot be read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tiny import tiny_run
from vitral.data.config import DataConfig
from vitral.datasets.opening import open_data
from vitral.runs.run import Run
from vitral.train.config import RunConfig
from vitral.train.evaluation import metric_names
from vitral.train.fit import fit
from vitral.train.interrupts import Interrupted
from vitral.train.session import Session
from vitral.train.targets import with_data
from vitral.weights.folder import load_model

TARGETS = ("multi-label", "regression")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Forty pictures, one of them damaged, with labels and the year of their taking."""
    rng, rows = np.random.default_rng(0), ["image,label,year"]
    for number in range(40):
        pixels = rng.integers(0, 255, (8, 8), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        names = [name for name, bright in (("a", pixels[:4].mean() > 127), ("b", pixels[4:].mean() > 127)) if bright]
        rows.append(f"{number}.png,{'|'.join(names)},{1900 + pixels.mean():.1f}")
    (tmp_path / "7.png").write_bytes(b"no picture")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    return tmp_path / "table.csv"


def run_of(table: Path, target: str, out: str, **data: object) -> RunConfig:
    column = "label" if target == "multi-label" else "year"
    source = DataConfig(
        **{"source": "csv", "root": table, "target": target, "label_column": column, "on_error": "skip", **data}
    )
    run = with_data(tiny_run(table.parent / out, batch_size=8), replace(source, val_fraction=0.2))
    return replace(run, augment=replace(run.augment, shift=0))


def train(config: RunConfig, *, resume: bool = False) -> dict[str, float]:
    run = Run.open(config.out) if resume else Run.create(config.out, recipe=config.recipe)
    try:
        return fit(run, config)
    finally:
        run.close()


@pytest.mark.parametrize("target", TARGETS)
def test_a_run_that_was_interrupted_has_the_same_weights(
    table: Path, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = (run_of(table, target, name) for name in ("whole", "parts"))
    metrics = train(whole)
    step = Session.train_step

    def interrupted(self: Session, *args: object, **options: object) -> object:
        if self.step == 6:
            raise Interrupted(2)
        return step(self, *args, **options)

    monkeypatch.setattr(Session, "train_step", interrupted)
    with pytest.raises(Interrupted):
        train(parts)
    monkeypatch.setattr(Session, "train_step", step)
    assert train(parts, resume=True) == metrics
    assert set(metrics) < set(metric_names(whole, open_data(whole.data)))
    one, other = ((config.out / "model.safetensors").read_bytes() for config in (whole, parts))
    assert one == other
    assert load_model(whole.out).card == load_model(parts.out).card


@pytest.mark.parametrize("target", TARGETS)
def test_accumulation_gives_the_same_weights(table: Path, target: str) -> None:
    models = []
    for parts in (1, 4):
        config = run_of(table, target, f"parts-{parts}")
        architecture = replace(config.model.architecture, dropout=0.0)
        config = replace(config, model=replace(config.model, architecture=architecture))
        train(replace(config, train=replace(config.train, accumulate=parts, steps=3)))
        models.append(load_model(config.out).state_dict())
    for name, tensor in models[0].items():
        torch.testing.assert_close(models[1][name], tensor, rtol=1e-3, atol=1e-4, msg=name)


def test_thresholds_without_validation_images(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = run_of(table, "multi-label", "run")
    train(replace(config, data=replace(config.data, val_fraction=None)))
    assert "chosen on training images" in capsys.readouterr().err
    assert len(load_model(config.out).card.thresholds) == 2


def test_a_number_is_saved_in_its_own_unit(table: Path) -> None:
    config = run_of(table, "regression", "run")
    train(config)
    model = load_model(config.out)
    assert type(model.head) is torch.nn.Linear
    assert 1900 < model(torch.zeros(1, 1, 8, 8)).item() < 2155


def test_a_trained_head_for_numbers_is_replaced(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run_of(table, "regression", "first")
    train(first)
    second = run_of(table, "regression", "second")
    train(replace(second, model=replace(second.model, weights=first.out)))
    assert "new zero head for a number" in capsys.readouterr().err


def test_numbers_that_are_all_the_same_are_refused(table: Path) -> None:
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], *(f"{line.rpartition(',')[0]},3" for line in lines[1:])]))
    with pytest.raises(ValueError, match="all training images have the year 3: regression needs numbers that differ"):
        train(run_of(table, "regression", "run"))
