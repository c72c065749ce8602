"""Where the time of training goes, measured without slowing it: by the device's own clock, never waiting for it."""

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
"""Parts of a step on the device, in their order: images to the device, augmentation, and all that learns."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds that some steps took in this process."""

    steps: int = 0
    images: int = 0
    """Images read by this process."""
    seconds: float = 0.0
    """From the first step's beginning to the last one's end."""
    waiting: float = 0.0
    """In which the device had nothing to do because a batch was not there yet."""
    reading: float = 0.0
    """Spent reading, decoding and cropping by all reading processes together, mostly beside the rest."""
    copy: float = 0.0
    """Bringing batches to the device."""
    augment: float = 0.0
    """Augmenting and normalising them there."""
    compute: float = 0.0
    """Forward, backward and optimiser, waiting for other processes' gradients included."""

    def __add__(self, other: "Timing") -> "Timing":
        return Timing(**{part.name: getattr(self, part.name) + getattr(other, part.name) for part in fields(self)})

    @property
    def other(self) -> float:
        """What is left: saving, logging, starting the device's work."""
        return max(self.seconds - self.waiting - self.copy - self.augment - self.compute, 0.0)

    @property
    def waiting_share(self) -> float:
        """Share of the time spent waiting for images."""
        return self.waiting / self.seconds if self.seconds else 0.0


@dataclass
class _Marks:
    """Moments of the steps since the last reading, on the device's clock."""

    moments: list[tuple[str, float | torch.cuda.Event]] = field(default_factory=list)

    def totals(self) -> dict[str, float]:
        """Seconds of each stage; the device has passed all moments."""
        totals = defaultdict(float)
        for (_, start), (stage, end) in zip(self.moments, self.moments[1:], strict=False):
            if isinstance(start, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
                totals[stage] += start.elapsed_time(end) / 1000
            elif isinstance(start, float) and isinstance(end, float):
                totals[stage] += end - start
        return {stage: totals[stage] for stage in STAGES}


class Stopwatch:
    """Measures the steps of one process; on a GPU by events that are looked at only once it has passed them."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.on_gpu = device.type == "cuda"
        self.reset()

    def reset(self) -> None:
        """Begins anew; the time since the last reading does not count."""
        self.steps = self.images = 0
        self.waited = self.reading = 0.0
        self.marks = _Marks()
        self.since = time.perf_counter()

    def batches(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches; the time until each of them comes is noted."""
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            self.waited += time.perf_counter() - asked
            self.reading += batch.seconds
            self.images += len(batch.labels)
            yield batch

    def begin(self) -> None:
        """A step begins on the device."""
        self.steps += 1
        self.end("")

    def end(self, stage: str) -> None:
        """The stage that began with the last mark ends; on a GPU it will, in the order of its work."""
        if self.on_gpu:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks.moments.append((stage, event))
        else:
            self.marks.moments.append((stage, time.perf_counter()))

    def read(self) -> Timing:
        """What was measured since the last reading; the caller has just waited for the device."""
        seconds, stages = time.perf_counter() - self.since, self.marks.totals()
        # a GPU works on while the process waits for images: what it was busy with was no waiting
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
    """The most bytes that this process has held at once: of a GPU's memory, or of the machine's on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
