"""Times functions in turns, so that other load on the machine slows all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["MIN_ROUNDS", "Latency", "Ratio", "Work", "latency", "relative_speed", "time_in_turns"]

Work = Callable[[], object]
"""A function to time; what it starts on a device has ended when it returns."""

MIN_ROUNDS = 5
"""Calls of each function, even if they take longer than their time."""

MAX_ROUNDS = 2000


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Seconds of one call."""

    calls: int
    """Calls that were timed."""
    p25: float
    p50: float
    p75: float
    p95: float
    p99: float
    """Of fewer than 100 calls, close to the slowest."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A speed relative to another, compared round by round."""

    median: float
    low: float
    """First quartile of the rounds."""
    high: float
    """Third quartile."""


def time_in_turns(
    work: Mapping[str, Work], *, seconds: float, min_rounds: int = MIN_ROUNDS, max_rounds: int = MAX_ROUNDS
) -> dict[str, list[float]]:
    """Seconds of each call of each function. They take turns, every other round in reverse order.

    Args:
        work: functions by name, already warmed up.
        seconds: time to spend, more if `min_rounds` take longer.
        min_rounds: rounds at least.
        max_rounds: rounds at most.
    """
    times: dict[str, list[float]] = {name: [] for name in work}
    names, end = list(work), time.perf_counter() + seconds
    for number in range(max_rounds):
        if number >= min_rounds and time.perf_counter() > end:
            break
        for name in names[:: -1 if number % 2 else 1]:
            start = time.perf_counter()
            work[name]()
            times[name].append(time.perf_counter() - start)
    return times


def latency(seconds: Sequence[float]) -> Latency:
    """Percentiles of the seconds of calls, interpolated linearly."""
    cuts = statistics.quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else list(seconds) * 99
    return Latency(calls=len(seconds), p25=cuts[24], p50=cuts[49], p75=cuts[74], p95=cuts[94], p99=cuts[98])


def relative_speed(seconds: Sequence[float], reference: Sequence[float]) -> Ratio:
    """How many times as fast one is as the other, from calls of the same rounds."""
    found = latency([other / own for own, other in zip(seconds, reference, strict=True)])
    return Ratio(median=found.p50, low=found.p25, high=found.p75)
