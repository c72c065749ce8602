"""The number of steps that fit into some minutes."""

from dataclasses import replace

import pytest

from tiny import tiny_run
from vitral.datasets.opening import open_data
from vitral.train import budget
from vitral.train.budget import MAX_EPOCHS, Budget, measure_budget

COSTS = Budget(step=0.5, evaluation=10.0, ending=20.0, spent=10.0, steps_per_epoch=20.0, evaluations=9)


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
