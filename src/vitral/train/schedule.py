"""Learning-rate schedules (paper, Tables 3 and 4)."""

import math
from dataclasses import dataclass
from typing import Literal

from vitral.errors import UserError
from vitral.train.duration import LENGTHS, Duration

__all__ = ["ScheduleConfig", "learning_rate"]


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The learning-rate schedule.

    Raises:
        UserError: a value is out of range, or a length is a time.
    """

    decay: Literal["cosine", "linear", "constant", "rsqrt"] = "cosine"
    """Shape of the decay from the peak rate to the end rate; rsqrt does not depend on the length of the run."""
    warmup: str = "5percent"
    """Length of the linear warm-up from 0, such as 10000steps, 5epochs or 5percent."""
    end: float = 0.0
    """Learning rate at the end of cosine or linear decay; the paper's linear decay ends at 1e-5."""
    timescale: str = "10000steps"
    """With rsqrt: time after warm-up at which the rate is the peak rate / sqrt(2)."""
    cooldown: str = "0steps"
    """Length of a linear cool-down to 0 at the end of the run, which multiplies the rate."""

    def __post_init__(self) -> None:
        for name in ("warmup", "timescale", "cooldown"):
            duration = Duration.parse(length := getattr(self, name))
            if duration.is_time:
                raise UserError(f"schedule.{name} must be in {', '.join(LENGTHS)}, not {length}")
            if duration.unit == "percent" and duration.amount > 100:
                raise UserError(f"schedule.{name} must be at most 100percent of the run, not {length}")
        if not 0 <= self.end < math.inf:
            raise UserError(f"schedule.end must be at least 0, not {self.end}")


def learning_rate(
    config: ScheduleConfig,
    *,
    base: float,
    step: int,
    total: int,
    warmup: int,
    timescale: int = 10_000,
    cooldown: int = 0,
) -> float:
    """The learning rate of one step.

    Warm-up and cool-down multiply the decayed rate, as in Google's code. Decay starts after warm-up.

    Args:
        base: the peak rate.
        step: number of the step, from 0.
        total: steps of the whole run.
        warmup: steps of warm-up, which starts at 0.
        timescale: steps, with rsqrt ("Scaling Vision Transformers", arXiv 2106.04560).
        cooldown: steps of cool-down.
    """
    progress = min(max((step - warmup) / max(total - warmup, 1), 0.0), 1.0)
    left = {"linear": 1 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2, "constant": 1.0, "rsqrt": 1.0}[
        config.decay
    ]
    rate = config.end + (base - config.end) * left
    if config.decay == "rsqrt":
        rate = base / math.sqrt(1 + max(step - warmup, 0) / max(timescale, 1))
    rate *= min(1.0, step / warmup) if warmup else 1.0
    return rate * (min(1.0, (total - step) / cooldown) if cooldown else 1.0)
