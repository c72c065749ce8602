"""Speed metrics and bottleneck of a run."""

from typing import Any

from vitral.train.profiling.bottleneck import Bottleneck, find_bottleneck, speed_table
from vitral.train.profiling.setup import Setup
from vitral.train.profiling.stopwatch import Stopwatch, Timing, peak_memory

__all__ = ["Profiler"]


class Profiler:
    """Reads the stopwatch of a session. The steps before the first `read`, which warm up, count only there."""

    def __init__(self, stopwatch: Stopwatch, setup: Setup) -> None:
        self.stopwatch = stopwatch
        self.setup = setup
        self.warm = False
        self.timing: Timing | None = None
        """All steps after warm-up; None if there are none yet."""
        self.last: Bottleneck | None = None

    def read(self, num_images: int) -> dict[str, float]:
        """Speed metrics since the last call, as `metrics.jsonl` has them. Call it after a synchronisation.

        Args:
            num_images: trained on since the last call, by all processes.
        """
        timing = self.stopwatch.read()
        if self.warm:
            self.timing = timing + (self.timing or Timing())
        self.warm = True
        rate = num_images / timing.seconds
        metrics = {
            "images_per_second": round(rate, 1),
            "data_wait": round(timing.waiting_fraction, 4),
            "memory_bytes": peak_memory(self.stopwatch.device),
        }
        utilisation = self.setup.utilisation(rate)
        return metrics if utilisation is None else metrics | {"mfu": round(utilisation, 4)}

    def reset(self) -> None:
        """Excludes the time since the last `read`."""
        self.stopwatch.reset()

    def bottleneck(self) -> str | None:
        """What limits the speed and what to change; None if that has not changed since the last call, or is unknown."""
        if self.timing is None:
            return None
        before, self.last = self.last, find_bottleneck(self.timing, self.setup)
        return None if before and before.stage == self.last.stage else self.last.advice

    def table(self) -> dict[str, Any] | None:
        """The content of `speed.json`; None if no steps were measured after warm-up."""
        return self.timing and speed_table(self.timing, self.setup, memory=peak_memory(self.stopwatch.device))
