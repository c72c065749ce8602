"""The plan of a run: its steps, learning rates and warnings."""

from dataclasses import replace

import pytest

from tiny import tiny_run
from vitral.train.plan import Plan
from vitral.train.schedule import ScheduleConfig


def plan(**train: object) -> Plan:
    return Plan.of(tiny_run(None, **{"batch_size": 100, **train}), samples=250)


def test_epochs_become_steps():
    assert plan(steps=None, epochs=2.0).total == 5


def test_steps_override_epochs():
    assert plan(steps=7, epochs=2.0).total == 7


def test_a_plan_has_at_least_one_step():
    assert plan(steps=None, epochs=1e-9).total == 1


def test_learning_rates_follow_the_schedule():
    twelve = plan(steps=12)
    assert twelve.schedule["warmup"] == 2
    assert [twelve.learning_rate(step) for step in (0, 1, 2, 12)] == [0, 5e-3, 1e-2, 0]


def stair_plan(*stairs: str) -> Plan:
    schedule = ScheduleConfig(decay="stair", warmup="0steps", stairs=stairs, multipliers=(0.5, 0.1))
    return Plan.of(replace(tiny_run(None), schedule=schedule), samples=250)


def test_stairs_are_in_steps():
    found = stair_plan("25percent", "50percent")
    peak = found.config.optim.lr
    assert (found.total, found.stairs) == (12, (3, 6))
    assert [found.learning_rate(step) / peak for step in (2, 3, 5, 6, 11)] == pytest.approx([1, 0.5, 0.5, 0.1, 0.1])


def test_stairs_must_increase():
    with pytest.raises(ValueError, match=r"schedule\.stairs must increase, and they are at steps 6, 5"):
        stair_plan("50percent", "5steps")


@pytest.mark.parametrize(
    ("schedule", "sentence"),
    [
        (dict(warmup="2steps"), None),
        (dict(warmup="4steps", cooldown="8steps"), None),
        (dict(warmup="0steps", cooldown="12steps"), None),
        (
            dict(warmup="10000steps"),
            "warning: a warm-up of 10000 steps does not fit into a run of 12 steps: the learning rate reaches "
            "1.1e-05 instead of 0.01; shorten --schedule.warmup, or train for longer",
        ),
        (dict(warmup="12steps"), "warning: a warm-up of 12 steps does"),
        (dict(warmup="6steps", cooldown="8steps"), "warning: a warm-up of 6 steps and a cool-down of 8 do not fit"),
        (
            dict(warmup="0steps", cooldown="24steps"),
            "reaches 0.005 instead of 0.01; shorten --schedule.warmup or",
        ),
    ],
)
def test_a_schedule_that_does_not_fit_is_warned_about(schedule, sentence):
    config = replace(tiny_run(None), schedule=ScheduleConfig(decay="constant", **schedule))
    found = Plan.of(config, samples=250)
    peak = max(map(found.learning_rate, range(found.total)))
    assert (peak == config.optim.lr) == (sentence is None)
    assert [sentence in warning for warning in found.warnings()] == ([] if sentence is None else [True])


def test_evaluation_by_epochs():
    assert plan(evaluate="2epochs").evaluate.steps == 5
