"""The number of steps that fit into some minutes."""

import math
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest
import torch

from tiny import tiny_run
from vitral.data.sources.source import Source
from vitral.datasets.opening import open_data
from vitral.evals.splits import final_split, running_split
from vitral.objectives.dino import DINOConfig
from vitral.train import budget
from vitral.train.assess import MAX_IMAGES
from vitral.train.budget import MAX_EPOCHS, Budget, ReadingCost, measure_budget
from vitral.train.config import RunConfig
from vitral.train.plan import Plan

COSTS = Budget(
    step=0.5,
    evaluation=10.0,
    saving=1.0,
    save_every=math.inf,
    ending=20.0,
    spent=10.0,
    steps_per_epoch=20.0,
    evaluations=9,
)


@pytest.mark.parametrize(
    ("minutes", "steps"),
    [
        (10.0, 960),  # 600 - 10 - 20 - 9 * 10 = 480 seconds
        (2.0, 1),  # evaluations take all of the time
        (1000.0, MAX_EPOCHS * 20),
    ],
)
def test_steps_by_hand(minutes, steps):
    assert COSTS.steps(minutes) == steps


def test_evaluations_take_at_most_a_sixth():
    assert COSTS.limited(10.0).evaluations == 9  # 90 of 600 seconds
    assert COSTS.limited(2.0).evaluations == 2
    assert COSTS.limited(0.5).evaluations == 0
    assert COSTS.limited(2.0).steps(2.0) == 140  # 120 - 10 - 20 - 20 = 70 seconds


def test_the_announced_time_is_that_of_the_steps():
    assert COSTS.seconds(960) + COSTS.spent == 600


def test_measuring_a_run(monkeypatch):
    monkeypatch.setattr(budget, "SECONDS", 0.0)
    config = tiny_run()
    config = replace(config, train=replace(config.train, evaluate="50percent", epochs=10.0, steps=None))
    data = open_data(config.data)
    found = measure_budget(config, data)
    assert found.evaluations == 1
    assert found.steps_per_epoch == len(data["train"]) / config.train.batch_size
    assert min(found.step, found.evaluation, found.spent) > 0
    assert found.ending > found.evaluation


def test_checkpoints_take_time():
    hourly = replace(COSTS, saving=50.0, save_every=100.0)
    assert hourly.steps(10.0) == 560  # 480 - 4 * 50 = 280 seconds
    assert hourly.seconds(560) == 280 + 90 + 3 * 50 + 20


def test_starting_readers_is_separate_from_reading_images():
    cost = ReadingCost.of([3.0, 7.0], [64, 512])
    assert cost.seconds(512) == pytest.approx(7.0)
    assert cost.seconds(64) == pytest.approx(3.0)
    assert ReadingCost.of([3.0, 6.0], [10, 10]).seconds(5) == 3.0
    assert ReadingCost.of([3.0, 2.0], [64, 512]).seconds(1000) == 3.0  # noise


def test_a_probe_reads_training_images_too():
    config = tiny_run()
    data = open_data(config.data)
    images = {name: len(source) for name, source in data.items()}
    assert budget._images_read(config, data, "test") == images["test"]
    features = replace(config, objective=DINOConfig(), train=replace(config.train, ema=None))
    assert budget._images_read(features, data, "test") == images["test"] + images["train"]


class Machine:
    """A machine with a clock of its own, on which everything that a run does takes as long as it is said to."""

    def __init__(self, *, step: float, start: float, image: float, save: float) -> None:
        self.now, self.trained, self.loaded = 0.0, 0.0, False
        self.step, self.start, self.image, self.save = step, start, image, save

    def replace(self, module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        """Lets a module run on this machine."""
        monkeypatch.setattr(module, "time", self)
        for name in ("train_steps", "evaluate_split"):
            monkeypatch.setattr(module, name, getattr(self, name))
        monkeypatch.setattr(module, "Checkpoints", self.checkpoints)

    def perf_counter(self) -> float:
        return self.now

    def train_steps(self, session: object, source: Source, plan: Plan) -> Iterator[SimpleNamespace]:
        for number in range(1, plan.total + 1):
            self.now, self.trained = self.now + self.step, self.trained + self.step
            yield SimpleNamespace(number=number, metrics={"loss": torch.zeros(())})

    def evaluate_split(self, session: object, data: dict[str, Source], split: str) -> None:
        self.now += self.start + self.image * len(data[split]) + (0.0 if self.loaded else 5.0)
        self.loaded = True

    def checkpoints(self, *_: object, **__: object) -> SimpleNamespace:
        def save(*_: object, **__: object) -> None:
            self.now += self.save

        return SimpleNamespace(save=save, wait=lambda: None)

    def run(self, config: RunConfig, data: dict[str, Source], *, steps: int, finish: float) -> float:
        """Seconds of a run of so many steps, as `vitral.train.fit` takes them."""
        config = replace(config, train=replace(config.train, steps=steps))
        start, saved = self.now, self.now
        plan = Plan.of(config, samples=len(data["train"]))
        for number in range(1, steps + 1):
            self.now += self.step
            last = number == steps
            if running_split(data) != final_split(data) if last else plan.evaluate.due(number):
                self.evaluate_split(None, data, running_split(data))
            if last or self.now - saved >= 300:
                self.now, saved = self.now + self.save, self.now
        self.evaluate_split(None, data, final_split(data))
        for split in ("train", final_split(data)):
            self.now += self.start + self.image * min(len(data[split]), MAX_IMAGES)
        self.now += finish
        return self.now - start


@pytest.mark.parametrize(("minutes", "seconds"), [(1.0, 10.0), (10.0, 30.0), (60.0, 60.0)])
def test_a_longer_run_is_measured_for_longer(monkeypatch, minutes, seconds):
    machine = Machine(step=0.5, start=0.0, image=0.0, save=0.0)
    machine.replace(budget, monkeypatch)
    config = tiny_run()
    measure_budget(config, open_data(config.data), minutes=minutes)
    assert machine.trained == pytest.approx(budget.WARM_UP * machine.step + seconds, abs=2 * machine.step)


@pytest.mark.parametrize("val_fraction", [None, 0.2])
@pytest.mark.parametrize("finish", [2.0, 8.0])
@pytest.mark.parametrize("minutes", [2.0, 10.0])
@pytest.mark.parametrize(
    "costs",
    [
        dict(step=0.2, start=1.5, image=0.002, save=0.1),  # small images
        dict(step=1.5, start=2.0, image=0.04, save=0.1),  # photographs
        dict(step=0.01, start=0.1, image=0.0002, save=3.0),
    ],
)
def test_the_announced_time_is_the_time_taken(monkeypatch, costs, minutes, finish, val_fraction):
    """By a fake clock: everything that a run does is announced, and fills the minutes unless 300 epochs are enough."""
    machine = Machine(**costs)
    machine.replace(budget, monkeypatch)
    monkeypatch.setattr(budget, "SOURCES", ("digits",))
    monkeypatch.setattr(budget, "choose_cached", lambda _: None)
    config = tiny_run()
    train = replace(config.train, evaluate="10percent", epochs=40.0, steps=None)
    data_config = replace(config.data, val_fraction=val_fraction)
    config = replace(config, train=train, data=data_config, checkpoint=replace(config.checkpoint, every="5min"))
    data = open_data(config.data)
    measured = measure_budget(config, data, minutes=minutes)
    found = measured.limited(minutes)
    if found.evaluations < measured.evaluations:
        config = replace(config, train=replace(train, evaluate=f"{math.ceil(100 / (found.evaluations + 1))}percent"))
    steps = found.steps(minutes)
    announced = found.seconds(steps)
    taken = machine.run(config, data, steps=steps, finish=finish)
    assert announced == pytest.approx(taken, rel=0.1)
    if 1 < steps < math.ceil(MAX_EPOCHS * found.steps_per_epoch):
        assert found.spent + taken == pytest.approx(60 * minutes, rel=0.1)
