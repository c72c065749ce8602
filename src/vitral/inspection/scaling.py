"""Time of a data-parallel training step on many devices: arithmetic, exchange of gradients, and reading.

The exchange is a ring all-reduce of float32 gradients, as of DDP, in buckets that overlap with the backward pass.
"""

from dataclasses import dataclass
from math import ceil, log2

from vitral.inspection.devices import Device

__all__ = ["EFFICIENCY", "PER_NODE", "StepTime", "all_reduce_seconds", "bus", "step_time"]

PER_NODE = 8
"""Devices of a node, each with its own network adapter."""

BUCKET = 25 * 2**20
"""Bytes of gradients that DDP exchanges at once."""

EFFICIENCY = 0.8
"""Fraction of the links' speed that collectives reach; assumed."""

LATENCY = 10e-6
"""Seconds that each hop adds to a collective; assumed."""


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """Seconds of a step, by part."""

    compute: float
    exchange: float
    """Of all gradients, overlapped or not."""
    reading: float
    """Of the images of a step, beside the rest."""
    total: float

    @property
    def bound(self) -> str:
        """What the step waits for: gradients if they add a tenth to the arithmetic."""
        if self.total == self.reading:
            return "reading"
        return "gradients" if self.total > 1.1 * self.compute else "arithmetic"


def bus(device: Device, devices: int) -> float | None:
    """Bytes per second that each device of a ring sends; None if the device's links are unknown."""
    if device.link is None or device.network is None:
        return None
    return EFFICIENCY * (device.link if devices <= PER_NODE else min(device.link, PER_NODE * device.network))


def all_reduce_seconds(size: int, *, devices: int, bandwidth: float, latency: float = LATENCY) -> float:
    """Time of a ring all-reduce in buckets.

    Args:
        size: bytes of the gradients of one device.
        devices: of the ring.
        bandwidth: bytes per second that each device sends.
        latency: seconds that each hop of a tree over the devices adds to a bucket, up and down.
    """
    if devices == 1:
        return 0.0
    return 2 * (devices - 1) / devices * size / bandwidth + ceil(size / BUCKET) * 2 * latency * ceil(log2(devices))


def step_time(
    *, compute: float, exchange: float, gradients: int, reading: float = 0.0, overlap: float = 1.0
) -> StepTime:
    """The time of a step from its parts.

    Args:
        compute: seconds of the forward and backward pass of one device.
        exchange: seconds of the all-reduce of all gradients.
        gradients: their bytes; the last bucket is exchanged after the backward pass.
        reading: seconds in which the images of a step are read, while the step before computes.
        overlap: fraction of the backward pass, two thirds of the arithmetic, in which gradients are exchanged.
    """
    last = exchange / ceil(gradients / BUCKET)
    exposed = max(exchange - overlap * 2 / 3 * compute, last)
    return StepTime(compute=compute, exchange=exchange, reading=reading, total=max(compute + exposed, reading))
