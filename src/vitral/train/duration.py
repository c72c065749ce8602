"""Durations that name their unit: `20steps`, `1.5epochs`, `100000examples`, `5percent`, `30s`, `2min`, `1h`."""

import math
import re
import time
from dataclasses import dataclass, field
from datetime import timedelta

from vitral.errors import UserError

__all__ = ["LENGTHS", "Duration", "Timer", "check_length", "parse_timeout"]

SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}
LENGTHS = ("steps", "epochs", "examples", "percent")
"""Units of training; the others are units of time."""


@dataclass(frozen=True)
class Duration:
    """An amount of training or time."""

    amount: float
    unit: str

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """Parses a duration such as `20steps`.

        Raises:
            UserError: the number is missing or negative, or the unit unknown.
        """
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-z]+)", text.strip())
        unit = match[2] if match else ""
        unit = unit + "s" if unit + "s" in LENGTHS else unit
        if match is None or unit not in (*LENGTHS, *SECONDS):
            units = ", ".join((*LENGTHS, *SECONDS))
            raise UserError(f"{text!r} is not a duration: write a number and one of {units}, such as 20steps")
        return cls(float(match[1]), unit)

    @property
    def is_time(self) -> bool:
        """Whether the unit is one of time."""
        return self.unit in SECONDS

    @property
    def seconds(self) -> float:
        """The duration in seconds, if its unit is one of time."""
        return self.amount * SECONDS[self.unit]

    def in_steps(self, *, total: int, batch_size: int, samples: int) -> int:
        """The duration in optimiser steps, rounded up.

        Args:
            total: steps of the whole run.
            batch_size: images per step.
            samples: images per epoch.

        Raises:
            UserError: the duration is a time.
        """
        if self.is_time:
            raise UserError(f"{self.amount:g}{self.unit} is a time; here a duration must be in {', '.join(LENGTHS)}")
        per_unit = {"steps": 1, "epochs": samples / batch_size, "examples": 1 / batch_size, "percent": total / 100}
        return math.ceil(round(self.amount * per_unit[self.unit], 6))


def check_length(setting: str, length: str) -> None:
    """Checks a part of a run.

    Raises:
        UserError: it is no duration, a time, or more than the whole run.
    """
    duration = Duration.parse(length)
    if duration.is_time:
        raise UserError(f"{setting} must be in {', '.join(LENGTHS)}, not {length}")
    if duration.unit == "percent" and duration.amount > 100:
        raise UserError(f"{setting} must be at most 100percent of the run, not {length}")


def parse_timeout(text: str) -> timedelta:
    """Parses the value of `--timeout`, such as `10min`.

    Raises:
        UserError: it is not a time.
    """
    duration = Duration.parse(text)
    if not duration.is_time:
        raise UserError(f"--timeout must be a time such as 10min, not {text}")
    return timedelta(seconds=duration.seconds)


@dataclass(kw_only=True)
class Timer:
    """Decides when something periodic is due, by steps or by the clock."""

    steps: int | None = None
    """Interval in steps; None if it goes by the clock."""
    seconds: float | None = None
    """Interval in seconds; None if it goes by steps."""
    last: float = field(default_factory=time.monotonic)
    """Monotonic time in seconds at which it was due last."""

    @classmethod
    def every(cls, text: str, *, total: int, batch_size: int, samples: int) -> "Timer":
        """A timer with a duration as its interval; an interval of zero is never due."""
        duration = Duration.parse(text)
        if duration.is_time:
            return cls(seconds=duration.seconds)
        return cls(steps=duration.in_steps(total=total, batch_size=batch_size, samples=samples))

    def due(self, step: int) -> bool:
        """Whether it is due after `step` steps; if so, the clock restarts."""
        if self.steps is not None:
            return self.steps > 0 and step % self.steps == 0
        if not self.seconds or time.monotonic() - self.last < self.seconds:
            return False
        self.last = time.monotonic()
        return True
