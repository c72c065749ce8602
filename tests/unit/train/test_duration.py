"""Durations with units, in steps or seconds, and timers."""

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitral.train.duration import Duration, Timer, parse_timeout

UNITS = ["steps", "epochs", "examples", "percent", "s", "min", "h"]
AMOUNTS = st.integers(0, 10**6) | st.decimals(0, 10**4, places=3).map(float)
RUN = dict(total=1000, batch_size=100, samples=250)


@given(AMOUNTS, st.sampled_from(UNITS), st.sampled_from(["", " "]))
def test_parse(amount, unit, space):
    duration = Duration.parse(f"{amount:.3f}{space}{unit}")
    assert duration.amount == pytest.approx(amount)
    assert duration.unit == unit
    assert duration.is_time == (unit in ("s", "min", "h"))


@pytest.mark.parametrize(("text", "unit"), [("1step", "steps"), ("1 epoch", "epochs"), (" 1example ", "examples")])
def test_singular_units(text, unit):
    assert Duration.parse(text) == Duration(1.0, unit)


@pytest.mark.parametrize(
    "text", ["", "20", "steps", "-1steps", "1.5.2s", "1e3steps", "5 minutes", "nan s", "1 2s", "5%"]
)
def test_invalid_durations_raise(text):
    with pytest.raises(ValueError, match="is not a duration: write a number and one of steps, epochs, examples, per"):
        Duration.parse(text)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("7steps", 7),
        ("6.5steps", 7),
        ("2epochs", 5),
        ("1epoch", 3),
        ("0.1epochs", 1),
        ("1000examples", 10),
        ("1001examples", 11),
        ("5percent", 50),
        ("0.05percent", 1),
        ("0steps", 0),
    ],
)
def test_steps_by_hand(text, steps):
    assert Duration.parse(text).in_steps(**RUN) == steps


@given(st.integers(1, 10**5), st.integers(1, 4096), st.integers(1, 10**7))
def test_whole_epochs_cover_every_sample_without_extra_steps(epochs, batch_size, samples):
    steps = Duration(float(epochs), "epochs").in_steps(total=0, batch_size=batch_size, samples=samples)
    assert (steps - 1) * batch_size < epochs * samples + 1e-3 * batch_size
    assert steps * batch_size >= epochs * samples - 1e-3 * batch_size


@given(st.integers(1, 10**6))
def test_100_percent_is_the_whole_run(total):
    assert Duration(100.0, "percent").in_steps(total=total, batch_size=1, samples=1) == total


def test_times_have_no_number_of_steps():
    with pytest.raises(ValueError, match="5min is a time; here a duration must be in steps, epochs"):
        Duration.parse("5min").in_steps(**RUN)


class TestTimer:
    def test_by_steps(self):
        timer = Timer.every("1epoch", **RUN)
        assert [step for step in range(1, 11) if timer.due(step)] == [3, 6, 9]

    @pytest.mark.parametrize("text", ["0steps", "0s"])
    def test_an_interval_of_zero_is_never_due(self, text):
        timer = Timer.every(text, **RUN)
        assert not any(timer.due(step) for step in range(1, 50))

    def test_by_the_clock(self, monkeypatch):
        clock = iter([0.0, 59.0, 61.0, 61.0, 100.0, 121.5, 121.5])
        monkeypatch.setattr("time.monotonic", lambda: next(clock))
        timer = Timer(seconds=60.0, last=next(clock))
        assert [timer.due(step) for step in range(1, 5)] == [False, True, False, True]

    @pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("2min", 120), ("1.5h", 5400)])
    def test_units_of_time(self, text, seconds):
        timer = Timer.every(text, **RUN)
        assert timer.steps is None
        assert timer.seconds == seconds

    def test_steps_do_not_depend_on_the_start(self):
        """A resumed run is due at the same steps."""
        assert [step for step in range(50, 60) if Timer.every("4steps", **RUN).due(step)] == [52, 56]

    def test_percent_of_the_run(self):
        assert Timer.every("10percent", **RUN).steps == math.ceil(RUN["total"] / 10)


def test_parse_timeout():
    assert parse_timeout("10min") == timedelta(minutes=10)
    with pytest.raises(ValueError, match="--timeout must be a time such as 10min, not 20steps"):
        parse_timeout("20steps")
