"""Energy that this machine uses while a block runs, where the system counts it."""

import time
from contextlib import suppress
from pathlib import Path

import torch

__all__ = ["PowerMeter"]

COUNTERS = Path("/sys/class/powercap")
"""Intel's and AMD's counters on Linux (RAPL), which most systems let only root read."""


class PowerMeter:
    """Mean power in watts of the processors and their memory; on a GPU, of the GPU at the end of the block."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.watts: float | None = None
        """None if nothing counts it."""
        self._before: dict[Path, int] = {}
        self._start = 0.0

    def __enter__(self) -> "PowerMeter":
        self._before, self._start = _microjoules(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":
            self.watts = _gpu_watts(self.device)
        if self.device.type != "cpu":  # of other GPUs nothing counts it
            return
        seconds, after = time.perf_counter() - self._start, _microjoules()
        if self._before and after.keys() == self._before.keys():
            with suppress(OSError, ValueError):
                used = sum((after[path] - self._before[path]) % _range_of(path) for path in after)
                self.watts = used / 1e6 / seconds


def _microjoules() -> dict[Path, int]:
    """Each package's counter; empty if there are none, or they may not be read."""
    try:
        return {path: int(path.read_text()) for path in sorted(COUNTERS.glob("intel-rapl:?/energy_uj"))}
    except (OSError, ValueError):
        return {}


def _range_of(counter: Path) -> int:
    """The number at which a counter starts again."""
    return int(counter.with_name("max_energy_range_uj").read_text()) + 1


def _gpu_watts(device: torch.device) -> float | None:
    try:
        return torch.cuda.power_draw(device) / 1000
    except Exception:  # NVML, its Python package or the sensor is missing, each with an error of its own
        return None
