"""Functions are timed in turns; their times become percentiles and ratios."""

from types import SimpleNamespace

import pytest

import vitral.inspection.timing
from vitral.inspection.timing import latency, relative_speed, time_in_turns


def test_functions_take_turns_in_alternating_order() -> None:
    calls: list[str] = []
    work = {name: lambda name=name: calls.append(name) for name in "abc"}
    times = time_in_turns(work, seconds=0.0, min_rounds=3)
    assert "".join(calls) == "abccbaabc"
    assert {name: len(seconds) for name, seconds in times.items()} == dict.fromkeys("abc", 3)
    assert all(value >= 0 for seconds in times.values() for value in seconds)


def test_rounds_fill_the_time_but_no_more_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    work = {"a": lambda: None}
    assert len(time_in_turns(work, seconds=60.0, max_rounds=7)["a"]) == 7
    now = map(float, range(100))  # a call takes a second, and so does a look at the clock between rounds
    monkeypatch.setattr(vitral.inspection.timing, "time", SimpleNamespace(perf_counter=lambda: next(now)))
    assert time_in_turns(work, seconds=20.0)["a"] == [1] * 9


def test_percentiles_are_interpolated() -> None:
    found = latency([float(number) for number in range(101)])
    assert (found.calls, found.p25, found.p50, found.p75, found.p95, found.p99) == (101, 25, 50, 75, 95, 99)


def test_one_call_is_every_percentile() -> None:
    found = latency([0.25])
    assert (found.calls, found.p50, found.p99) == (1, 0.25, 0.25)


def test_speeds_are_compared_round_by_round() -> None:
    """A round in which the machine was slow counts as any other."""
    found = relative_speed([1.0, 10.0, 1.0], [2.0, 20.0, 2.0])
    assert (found.median, found.low, found.high) == (2, 2, 2)
    assert relative_speed([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]).low == pytest.approx(1.5)
