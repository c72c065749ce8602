"""Learning-rate schedules (paper, Tables 3 and 4)."""

import math
from dataclasses import dataclass
from typing import Literal

from vitral.train.duration import LENGTHS, Duration

__all__ = ["ScheduleConfig", "learning_rate"]


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate moves over a run.

    Raises:
        ValueError: a value is out of range, or the warm-up is a time.
    """

    decay: Literal["cosine", "linear", "constant"] = "cosine"
    """Shape of the way from the base rate to the end rate."""
    warmup: str = "5percent"
    """Length of the linear warm-up from 0, such as 10000steps, 5epochs or 5percent."""
    end: float = 0.0
    """Learning rate at the end; the paper's linear decay ends at 1e-5."""

    def __post_init__(self) -> None:
        if Duration.parse(self.warmup).is_time:
            raise ValueError(f"schedule.warmup must be in {', '.join(LENGTHS)}, not {self.warmup}")
        if not 0 <= self.end < math.inf:
            raise ValueError(f"schedule.end must be at least 0, not {self.end}")


def learning_rate(config: ScheduleConfig, *, base: float, step: int, total: int, warmup: int) -> float:
    """The learning rate of one step.

    The warm-up multiplies the decayed rate, as in Google's code: decay runs over the steps after warm-up.

    Args:
        base: the peak rate.
        step: the step about to be taken, from 0.
        total: steps of the whole run.
        warmup: steps of warm-up; the rate of step 0 is then 0.
    """
    progress = min(max((step - warmup) / max(total - warmup, 1), 0.0), 1.0)
    left = {"linear": 1 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2, "constant": 1.0}[config.decay]
    return (config.end + (base - config.end) * left) * (min(1.0, step / warmup) if warmup else 1.0)
