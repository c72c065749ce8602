"""Learning-rate schedules (paper, Tables 3 and 4), and big_vision's."""

import math
from dataclasses import dataclass
from typing import Literal

from vitral.errors import UserError
from vitral.train.duration import check_length

__all__ = ["ScheduleConfig", "learning_rate"]


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The learning-rate schedule.

    Raises:
        UserError: a value is out of range, or a length is a time.
    """

    decay: Literal["cosine", "linear", "constant", "rsqrt", "polynomial", "stair"] = "cosine"
    """Shape of the decay from the peak rate to the end rate; rsqrt does not depend on the length of the run."""
    warmup: str = "5percent"
    """Length of the linear warm-up from 0, such as 10000steps, 5epochs or 5percent."""
    end: float = 0.0
    """Learning rate at the end of cosine, linear or polynomial decay; the paper's linear decay ends at 1e-5."""
    power: float = 1.0
    """With polynomial: exponent of the fraction of the run that is left; 1 is linear decay."""
    stairs: tuple[str, ...] = ()
    """With stair: times since the start of the run at which the rate changes, such as 30epochs 60epochs."""
    multipliers: tuple[float, ...] = ()
    """With stair: factor of the peak rate from each of these times on, such as 0.1 0.01."""
    timescale: str = "10000steps"
    """With rsqrt: time after warm-up at which the rate is the peak rate / sqrt(2)."""
    shift: str = "0steps"
    """With rsqrt: time that counts as already decayed when warm-up ends, to continue another run's schedule."""
    cooldown: str = "0steps"
    """Length of a linear cool-down to 0 at the end of the run, which multiplies the rate."""

    def __post_init__(self) -> None:
        for name in ("warmup", "timescale", "shift", "cooldown"):
            check_length(f"schedule.{name}", getattr(self, name))
        for length in self.stairs:
            check_length("schedule.stairs", length)
        if not 0 <= self.end < math.inf:
            raise UserError(f"schedule.end must be at least 0, not {self.end}")
        if not 0 < self.power < math.inf:
            raise UserError(f"schedule.power must be above 0, not {self.power}")
        if not all(0 <= multiplier < math.inf for multiplier in self.multipliers):
            raise UserError(f"schedule.multipliers must be at least 0, not {' '.join(map(str, self.multipliers))}")
        if len(self.stairs) != len(self.multipliers):
            raise UserError(
                f"schedule.stairs and schedule.multipliers must have the same length, not {len(self.stairs)} and "
                f"{len(self.multipliers)}"
            )
        if (self.decay == "stair") != bool(self.stairs):
            raise UserError("schedule.stairs and schedule.multipliers go with --schedule.decay stair, which needs both")


def learning_rate(
    config: ScheduleConfig,
    *,
    base: float,
    step: int,
    total: int,
    warmup: int,
    timescale: int = 10_000,
    shift: int = 0,
    cooldown: int = 0,
    stairs: tuple[int, ...] = (),
) -> float:
    """The learning rate of one step.

    Warm-up and cool-down multiply the decayed rate, as in Google's code. Decay starts after warm-up, except for stairs,
    which count from the start of the run.

    Args:
        base: the peak rate.
        step: number of the step, from 0.
        total: steps of the whole run.
        warmup: steps of warm-up, which starts at 0.
        timescale: steps, with rsqrt ("Scaling Vision Transformers", arXiv 2106.04560).
        shift: steps that count as decayed after warm-up, with rsqrt.
        cooldown: steps of cool-down.
        stairs: steps at which the rate changes, with stair, in increasing order.
    """
    progress = min(max((step - warmup) / max(total - warmup, 1), 0.0), 1.0)
    left = {
        "linear": 1 - progress,
        "polynomial": (1 - progress) ** config.power,
        "cosine": (1 + math.cos(math.pi * progress)) / 2,
    }
    rate = base
    if config.decay in left:
        rate = config.end + (base - config.end) * left[config.decay]
    elif config.decay == "rsqrt":
        rate = base / math.sqrt(1 + (max(step - warmup, 0) + shift) / max(timescale, 1))
    elif config.decay == "stair":
        rate = base * (1.0, *config.multipliers)[sum(start <= step for start in stairs)]
    rate *= min(1.0, step / warmup) if warmup else 1.0
    return rate * (min(1.0, (total - step) / cooldown) if cooldown else 1.0)
