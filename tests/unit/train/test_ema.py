"""EMA: by hand, and no worse than the weights themselves in a short run."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tiny import ARCHITECTURE, tiny_run
from vitral.data.batches import TrainingBatches
from vitral.datasets.opening import open_data
from vitral.runs.run import Run
from vitral.train.ema import update_average, warmed_up
from vitral.train.fit import fit
from vitral.train.session import Session
from vitral.vit import ViT


@pytest.mark.parametrize(
    ("updates", "decay"), [(0, 1 / 10), (1, 2 / 11), (8, 9 / 18), (890, 891 / 900), (891, 0.99), (10**6, 0.99)]
)
def test_decay_grows_to_its_value(updates, decay):
    assert warmed_up(0.99, updates=updates) == pytest.approx(decay, abs=1e-12)


def test_an_update_by_hand():
    average, model = ViT(ARCHITECTURE), ViT(ARCHITECTURE)
    expected = [
        0.75 * ours + 0.25 * theirs for ours, theirs in zip(average.parameters(), model.parameters(), strict=True)
    ]
    update_average(average, model, decay=0.75)
    for found, wanted in zip(average.parameters(), expected, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_decay_zero_copies_and_decay_one_keeps(decay):
    average, model = ViT(ARCHITECTURE), ViT(ARCHITECTURE)
    expected = [param.clone() for param in (average if decay else model).parameters()]
    update_average(average, model, decay=decay)
    for found, wanted in zip(average.parameters(), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_ema_does_not_hurt_a_short_run(tmp_path: Path):
    """A decay of 0.99 from the start would leave three quarters of the initial weights after 30 steps."""
    losses = []
    for ema in (None, 0.99):
        config = tiny_run(tmp_path / str(ema), steps=30, ema=ema, log="10steps", optimiser="muon")
        run = Run.create(config.out, recipe=config.recipe)
        losses.append(fit(run, config)["test/loss"])
        run.close()
    assert losses[0] < 2.2 < math.log(10)
    assert losses[1] < losses[0] + 0.01


def test_polyaks_average_has_the_same_decay_from_the_start(tmp_path: Path):
    """Compared with the average of the weights of a run without EMA."""
    config = tiny_run(tmp_path / "run", ema=0.5, ema_warmup=False)
    config, classes = config.resolved(num_classes=10), tuple(map(str, range(10)))
    averaged, plain = (
        Session(replace(config, train=replace(config.train, ema=ema)), classes=classes) for ema in (0.5, None)
    )
    expected = plain.model.head.weight.detach().clone()
    source = open_data(config.data)["train"]
    batches = TrainingBatches(
        source=source, preprocessing=config.preprocessing, augment=config.augment, batch_size=64, seed=5
    )
    for step in range(5):
        for session in (averaged, plain):
            session.train_step(batches[step], lr=0.01)
        expected = 0.5 * expected + 0.5 * plain.model.head.weight.detach()
    torch.testing.assert_close(averaged.eval_model.head.weight, expected)


def test_frozen_weights_are_not_averaged():
    model, average = (ViT(ARCHITECTURE) for _ in range(2))
    for vit in (model, average):
        torch.nn.init.normal_(vit.head.weight)
    model.head.weight.requires_grad_(False)
    before = average.head.weight.clone()
    update_average(average, model, decay=0.5)
    assert torch.equal(average.head.weight, before)
