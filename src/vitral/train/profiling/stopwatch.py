"""Time of each stage of training, measured without synchronising with the device."""

import resource
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, fields

import torch

from vitral.data.batches import Batch

__all__ = ["STAGES", "Stopwatch", "Timing", "peak_memory"]

STAGES = ("copy", "augment", "compute")
"""Stages of a step on the device, in order: host-to-device copy, augmentation, forward to optimiser step."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of some steps in this process."""

    steps: int = 0
    images: int = 0
    """Images read by this process."""
    seconds: float = 0.0
    """Wall-clock time of all steps."""
    waiting: float = 0.0
    """Idle time of the device while it waited for a batch."""
    reading: float = 0.0
    """Reading, decoding and cropping, summed over data workers; it overlaps with the other stages."""
    copy: float = 0.0
    """Copying batches to the device."""
    augment: float = 0.0
    """Augmenting and normalising them on the device."""
    compute: float = 0.0
    """Forward, backward and optimiser step, including the wait for gradients of other processes."""

    def __add__(self, other: "Timing") -> "Timing":
        return Timing(**{part.name: getattr(self, part.name) + getattr(other, part.name) for part in fields(self)})

    @property
    def other(self) -> float:
        """The remaining time: checkpoints, logging, kernel launches."""
        return max(self.seconds - self.waiting - self.copy - self.augment - self.compute, 0.0)

    @property
    def waiting_fraction(self) -> float:
        """Fraction of the time spent waiting for images."""
        return self.waiting / self.seconds if self.seconds else 0.0


@dataclass
class _Marks:
    """Time stamps since the last reading, on the device's clock."""

    stamps: list[tuple[str, float | torch.cuda.Event]] = field(default_factory=list)

    def totals(self) -> dict[str, float]:
        """Seconds of each stage. The device has passed all time stamps."""
        totals = defaultdict(float)
        for (_, start), (stage, end) in zip(self.stamps, self.stamps[1:], strict=False):
            if isinstance(start, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
                totals[stage] += start.elapsed_time(end) / 1000
            elif isinstance(start, float) and isinstance(end, float):
                totals[stage] += end - start
        return {stage: totals[stage] for stage in STAGES}


class Stopwatch:
    """Measures the steps of one process; on CUDA with events that are read after a synchronisation.

    On mps and xpu the stages are the time to start the work, and the rest of it is part of `other`.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.on_cuda = device.type == "cuda"
        self.reset()

    def reset(self) -> None:
        """Starts again; the time since the last reading does not count."""
        self.steps = self.images = 0
        self.waited = self.reading = 0.0
        self.marks = _Marks()
        self.since = time.perf_counter()

    def batches(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yields the batches and measures the wait for each."""
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            self.waited += time.perf_counter() - start
            self.reading += batch.seconds
            self.images += len(batch.labels)
            yield batch

    def begin(self) -> None:
        """Marks the start of a step."""
        self.steps += 1
        self.end("")

    def end(self, stage: str) -> None:
        """Marks the end of a stage that started at the mark before; on CUDA, in stream order."""
        if self.on_cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks.stamps.append((stage, event))
        else:
            self.marks.stamps.append((stage, time.perf_counter()))

    def read(self) -> Timing:
        """The time since the last reading. Call it after a synchronisation with the device."""
        seconds, stages = time.perf_counter() - self.since, self.marks.totals()
        # a GPU keeps computing while the process waits for images, and that time is not idle
        idle = max(seconds - sum(stages.values()), 0.0)
        timing = Timing(
            steps=self.steps,
            images=self.images,
            seconds=seconds,
            waiting=min(self.waited, idle),
            reading=self.reading,
            **stages,
        )
        self.reset()
        return timing


def peak_memory(device: torch.device) -> int:
    """Peak memory of this process in bytes: GPU memory, or resident memory on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "xpu":
        return torch.xpu.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()  # PyTorch counts no peak there
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
