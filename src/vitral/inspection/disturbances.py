"""What disturbs a measurement: other load on the machine, and a clock that falls."""

import os
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from vitral.device import prefers_bfloat16, synchronize
from vitral.inspection.timing import Work

__all__ = ["Disturbances", "Watch", "fixed_work", "median_drift"]

STAT = Path("/proc/stat")

QUIET = 0.05
"""Fraction of the CPU that other processes may use, and of the speed that may be lost, without a word."""

PRODUCT = {"cpu": 384, "cuda": 4096}
"""Rows and columns of the matrices that are multiplied to watch the clock."""

LIMITS = {
    0x04: "the power limit",
    0x08: "the hardware",
    0x20: "the temperature",
    0x40: "the temperature",
    0x80: "the power supply",
}
"""Bits of NVML's reasons for a lower clock."""


@dataclass(frozen=True, kw_only=True)
class Disturbances:
    """What was seen during a measurement; None where this machine does not tell."""

    other_processes: float | None
    """Fraction of all cores' time that other processes used."""
    stolen: float | None
    """Fraction that the hypervisor gave to other machines."""
    drift: float | None
    """How much longer a fixed product took in the last third of the time than in the first, as a fraction."""
    gpu_busy: float | None = None
    """Utilisation of the GPU just before the measurement."""
    gpu_limits: tuple[str, ...] = ()
    """What lowered the GPU's clock."""
    gpu_clock: float | None = None
    """Clock of the GPU at the end, as a fraction of its highest."""

    def sentences(self) -> list[str]:
        """What a reader of the figures must know; empty if nothing disturbed them."""
        notes = []
        if self.other_processes is None:
            notes.append("this system does not tell how busy other processes were")
        elif self.other_processes > QUIET:
            notes.append(
                f"other processes used {self.other_processes:.0%} of the CPU: measure again on an idle machine"
            )
        if self.stolen and self.stolen > QUIET:
            notes.append(f"the hypervisor gave {self.stolen:.0%} of the CPU to other machines")
        if self.drift and abs(self.drift) > QUIET:
            slower = "slower" if self.drift > 0 else "faster"
            notes.append(
                f"a fixed product was {abs(self.drift):.0%} {slower} at the end than at the start: the clock or other "
                "load changed"
            )
        if self.gpu_busy and self.gpu_busy > QUIET:
            notes.append(f"the GPU was {self.gpu_busy:.0%} busy before the measurement: other processes use it")
        notes += [f"{limit} lowered the GPU's clock" for limit in self.gpu_limits]
        return notes


class Watch:
    """Watches the machine from its creation to `read`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        gpu = _query_gpu(device)
        self.gpu_busy = gpu and gpu[0]
        self.start = _cpu_seconds()
        self.own, self.wall = _own_seconds(), time.perf_counter()

    def read(self, product_seconds: Sequence[float]) -> Disturbances:
        """What disturbed the measurement.

        Args:
            product_seconds: seconds of `fixed_work` from time to time, in order.
        """
        gpu = _query_gpu(self.device)
        other, stolen = self._shares()
        return Disturbances(
            other_processes=other,
            stolen=stolen,
            drift=median_drift(product_seconds),
            gpu_busy=self.gpu_busy,
            gpu_limits=tuple(dict.fromkeys(text for bit, text in LIMITS.items() if gpu and gpu[2] & bit)),
            gpu_clock=gpu and gpu[1],
        )

    def _shares(self) -> tuple[float | None, float | None]:
        """Fractions of the CPU's time that other processes and other machines used."""
        end, own = _cpu_seconds(), _own_seconds() - self.own
        total = (time.perf_counter() - self.wall) * (os.cpu_count() or 1)
        if self.start is None or end is None or total <= 0:
            return None, None
        busy, stolen = (after - before for before, after in zip(self.start, end, strict=True))
        return min(max(busy - own, 0.0) / total, 1.0), min(max(stolen, 0.0) / total, 1.0)


def fixed_work(device: torch.device) -> Work:
    """A matrix product that takes the same time unless the machine changes."""
    size = PRODUCT.get(device.type, PRODUCT["cuda"])
    factor = torch.ones(size, size, device=device, dtype=torch.bfloat16 if prefers_bfloat16(device) else torch.float32)

    def multiply() -> None:
        torch.mm(factor, factor)
        synchronize(device)

    multiply()
    return multiply


def median_drift(seconds: Sequence[float]) -> float | None:
    """Median of the last third over that of the first, less one; None for fewer than six values."""
    third = len(seconds) // 3
    if third < 2:
        return None
    return statistics.median(seconds[-third:]) / statistics.median(seconds[:third]) - 1


def _cpu_seconds() -> tuple[float, float] | None:
    """Seconds that all cores were busy, and that were stolen, since the machine started; None except on Linux."""
    try:
        fields = [int(number) for number in STAT.read_text().split("\n", 1)[0].split()[1:]]
    except (OSError, ValueError):
        return None
    user, nice, system, _, _, interrupts, soft_interrupts, stolen = fields[:8]
    ticks = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + interrupts + soft_interrupts) / ticks, stolen / ticks


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _query_gpu(device: torch.device) -> tuple[float, float, int] | None:
    """Utilisation, clock as a fraction of the highest, and reasons for a lower one; None if it is not known."""
    if device.type != "cuda":
        return None
    fields = "utilization.gpu,clocks.sm,clocks.max.sm,clocks_throttle_reasons.active"
    index = torch.cuda.current_device() if device.index is None else device.index
    uuid = f"GPU-{torch.cuda.get_device_properties(index).uuid}"  # nvidia-smi's numbers need not be PyTorch's
    command = ["nvidia-smi", f"--id={uuid}", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        line = subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout
        busy, clock, highest, reasons = (text.strip() for text in line.split(","))
        return float(busy) / 100, float(clock) / float(highest), int(reasons, 16)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
