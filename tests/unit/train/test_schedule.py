"""Learning rates against hand-computed values and a second formula."""

import math
from functools import partial

import pytest

from vitral.train.schedule import ScheduleConfig, learning_rate


def rates(config: ScheduleConfig, *, base: float, total: int, warmup: int) -> list[float]:
    return [learning_rate(config, base=base, step=step, total=total, warmup=warmup) for step in range(total + 1)]


def test_warmup_is_linear_from_zero():
    found = rates(ScheduleConfig(decay="constant"), base=8.0, total=20, warmup=4)
    assert found == [0.0, 2.0, 4.0, 6.0] + [8.0] * 17


def test_without_warmup_the_first_step_has_the_peak_rate():
    assert rates(ScheduleConfig(), base=0.5, total=10, warmup=0)[0] == 0.5


def test_cosine_by_hand():
    found = rates(ScheduleConfig(decay="cosine"), base=2.0, total=14, warmup=2)
    assert found[2] == 2
    assert found[5] == pytest.approx(1 + math.sqrt(0.5))
    assert found[8] == pytest.approx(1)
    assert found[14] == 0


def test_linear_decay_reaches_the_end_rate():
    found = rates(ScheduleConfig(decay="linear", end=1e-5), base=1e-3, total=12, warmup=2)
    assert found[2] == 1e-3
    assert found[7] == pytest.approx((1e-3 + 1e-5) / 2)
    assert found[12] == pytest.approx(1e-5)


def test_warmup_multiplies_the_decayed_rate():
    """The first rate is zero, also if the end rate is not."""
    config = ScheduleConfig(decay="cosine", end=0.1)
    assert rates(config, base=1.0, total=100, warmup=10)[5] == 0.5
    assert rates(config, base=1.0, total=100, warmup=10)[0] == 0


@pytest.mark.parametrize("decay", ["cosine", "linear", "constant"])
@pytest.mark.parametrize(("warmup", "end"), [(0, 0.0), (7, 0.0), (7, 1e-4), (50, 1e-4)])
def test_fifty_steps_of_a_second_formula(decay, warmup, end):
    for step, found in enumerate(rates(ScheduleConfig(decay=decay, end=end), base=3e-3, total=50, warmup=warmup)):
        done = 0.0 if step <= warmup or warmup == 50 else (step - warmup) / (50 - warmup)
        expected = {
            "cosine": end + 0.5 * (3e-3 - end) * (1 + math.cos(math.pi * done)),
            "linear": 3e-3 + done * (end - 3e-3),
            "constant": 3e-3,
        }[decay]
        assert found == pytest.approx(expected * (step / warmup if step < warmup else 1), abs=1e-12)


def test_rsqrt_halves_its_square_after_the_time_scale():
    config = ScheduleConfig(decay="rsqrt")
    rate = partial(learning_rate, config, base=2.0, total=1000, warmup=10, timescale=100)
    assert rate(step=5) == 1
    assert rate(step=10) == 2
    assert rate(step=110) == pytest.approx(math.sqrt(2))
    assert rate(step=310) == 1


@pytest.mark.parametrize("decay", ["cosine", "linear", "constant", "rsqrt"])
def test_fifty_steps_with_a_cooldown(decay):
    """The cool-down multiplies the rate without it."""
    config = ScheduleConfig(decay=decay, end=1e-4)
    lengths = dict(base=3e-3, total=50, warmup=5, timescale=7)
    for step in range(51):
        plain = learning_rate(config, step=step, **lengths)
        if decay == "rsqrt":
            late = max(step - 5, 0)
            assert plain == pytest.approx(3e-3 / (1 + late / 7) ** 0.5 * min(step / 5, 1), abs=1e-12)
        found = learning_rate(config, step=step, **lengths, cooldown=20)
        assert found == pytest.approx(plain * (1 if step <= 30 else (50 - step) / 20), abs=1e-12)


@pytest.mark.parametrize("power", [0.5, 1.0, 3.0])
def test_polynomial_decay_of_a_second_formula(power):
    """The fraction of the steps that is left, to a power, as a geometric mean of logarithms."""
    config = ScheduleConfig(decay="polynomial", power=power, end=1e-4)
    for step, found in enumerate(rates(config, base=2e-3, total=40, warmup=8)):
        left = (40 - max(step, 8)) / 32
        expected = 1e-4 + 1.9e-3 * (math.exp(power * math.log(left)) if left else 0.0)
        assert found == pytest.approx(expected * min(step / 8, 1), abs=1e-12)


def test_polynomial_of_power_one_is_linear():
    lengths = dict(base=1e-3, total=30, warmup=4)
    assert rates(ScheduleConfig(decay="polynomial", end=1e-5), **lengths) == rates(
        ScheduleConfig(decay="linear", end=1e-5), **lengths
    )


def test_stairs_by_hand():
    """A stair begins at its step, counted from the start of the run; warm-up and cool-down multiply."""
    config = ScheduleConfig(decay="stair", stairs=("6steps", "9steps"), multipliers=(0.5, 0.25))
    rate = partial(learning_rate, config, base=8.0, total=12, warmup=4, stairs=(6, 9), cooldown=2)
    assert [rate(step=step) for step in range(13)] == [0, 2, 4, 6, 8, 8, 4, 4, 4, 2, 2, 1, 0]


def test_a_shift_continues_the_schedule_of_another_run():
    """After warm-up, the rate is what a run without a shift has `shift` steps later; during warm-up it is constant."""
    config = ScheduleConfig(decay="rsqrt")
    lengths = dict(base=3.0, total=1000, timescale=100)
    for step in range(10, 400, 13):
        later = learning_rate(config, step=step + 290, warmup=0, **lengths)
        assert learning_rate(config, step=step, warmup=10, shift=300, **lengths) == pytest.approx(later, rel=1e-12)
    assert learning_rate(config, step=5, warmup=10, shift=300, **lengths) == pytest.approx(3 / 2 * 5 / 10)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"power": 0.0}, "schedule.power must be above 0, not 0.0"),
        ({"shift": "1h"}, "schedule.shift must be in steps, epochs, examples, percent, not 1h"),
        ({"decay": "stair"}, "go with --schedule.decay stair, which needs both"),
        ({"stairs": ("1epoch",), "multipliers": (0.1,)}, "go with --schedule.decay stair"),
        ({"decay": "stair", "stairs": ("1epoch",), "multipliers": (0.1, 0.2)}, "the same length, not 1 and 2"),
        ({"decay": "stair", "stairs": ("1h",), "multipliers": (0.1,)}, "schedule.stairs must be in steps"),
        ({"decay": "stair", "stairs": ("1epoch",), "multipliers": (-0.1,)}, "must be at least 0, not -0.1"),
        ({"warmup": "5min"}, "schedule.warmup must be in steps, epochs, examples, percent, not 5min"),
        ({"cooldown": "1h"}, "schedule.cooldown must be in steps, epochs, examples, percent, not 1h"),
        ({"warmup": "101percent"}, "schedule.warmup must be at most 100percent of the run, not 101percent"),
        ({"warmup": "5"}, "'5' is not a duration"),
        ({"end": -1e-5}, "schedule.end must be at least 0, not -1e-05"),
        ({"end": float("nan")}, "schedule.end must be at least 0, not nan"),
    ],
)
def test_values_out_of_range(values, reason):
    with pytest.raises(ValueError, match=reason):
        ScheduleConfig(**values)
