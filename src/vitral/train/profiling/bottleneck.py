"""What bounds the speed of a run, and what to change: told from measured times alone."""

from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

from vitral.train.profiling.setup import Setup
from vitral.train.profiling.throughput import Timing

__all__ = ["Bound", "Diagnosis", "diagnose", "speed_table"]

Bound = Literal["decode", "augment", "copy", "compute", "communication"]

WAITS = 0.1
"""A run that waits for images for more than this share of its time is bound by them."""

LARGE = 0.001
"""An image that takes more seconds to read is larger than it need be."""

PACK = "store the images smaller with vitral data pack"

CROWDED = 0.7
"""Share of the time from which a core that reads is hardly free for anything else."""

IDLE = 0.25
"""Below this share of a GPU's peak, it has time to spare."""

HIDDEN = 0.5
"""Up to this share of a step's arithmetic, the exchange of gradients hides behind the backward pass."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What bounds a run."""

    bound: Bound
    sentence: str
    """What was seen, and what to change."""


def diagnose(timing: Timing, setup: Setup) -> Diagnosis:
    """Says which part of training takes the time, and what to do about it; `timing` has at least one step."""
    assert timing.steps > 0, "nothing was measured"
    if timing.waiting_share > WAITS:
        return _waiting(timing, setup)
    if setup.gradients * timing.steps > HIDDEN * timing.compute:
        return _communication(timing, setup)
    if _crowded(timing, setup):
        return _starving(timing, setup)
    parts: dict[Bound, float] = {"copy": timing.copy, "augment": timing.augment, "compute": timing.compute}
    bound = max(parts, key=lambda part: parts[part])
    return Diagnosis(bound=bound, sentence=SENTENCES[bound](parts[bound] / timing.seconds, timing, setup))


def speed_table(timing: Timing, setup: Setup, *, memory: int) -> dict[str, Any]:
    """Where the time went, as JSON can hold it; `memory` is the most bytes held."""
    rate = timing.images * setup.processes / timing.seconds
    found = diagnose(timing, setup)
    parts = ("waiting", "copy", "augment", "compute", "other")
    return {
        "bound": found.bound,
        "diagnosis": found.sentence,
        "images_per_second": rate,
        "steps": timing.steps,
        "total_seconds": timing.seconds,
        "seconds": {part: getattr(timing, part) for part in parts},
        "reading_milliseconds": 1000 * timing.reading / timing.images,
        "workers": setup.workers,
        "device": setup.device,
        "processes": setup.processes,
        "memory_bytes": memory,
        "mfu": setup.utilisation(rate),
    }


def _waiting(timing: Timing, setup: Setup) -> Diagnosis:
    """Images come too slowly: because they are read slowly, or because they are handed over slowly."""
    head = f"the run waits {timing.waiting_share:.0%} of its time for images"
    image = timing.reading / timing.images
    reader = "the training process itself" if not setup.workers else _count(setup.workers, "worker")
    read = f"reading takes {_milliseconds(image)} an image on {reader}"
    if timing.reading < 0.5 * timing.seconds * setup.workers:
        where = "in handing batches over: give them more memory to share, or lower --train.batch-size"
        return Diagnosis(bound="copy", sentence=f"{head}, yet {read}, which would be enough; the time is lost {where}")
    busy = timing.seconds - timing.waiting
    wanted = ceil(1.05 * timing.reading / busy) if busy > 0 else setup.cores
    workers = max(min(wanted, setup.cores), 1)
    if workers <= setup.workers:
        advice = f"{_count(setup.cores, 'core')} cannot read faster: {PACK}"
    elif workers < wanted:
        advice = f"set --data.workers {workers} (all cores; {wanted} would be needed, so also {PACK})"
    else:
        advice = f"set --data.workers {workers}" + (f", or {PACK}" if image > LARGE else "")
    return Diagnosis(bound="decode", sentence=f"{head}: {read}; {advice}")


def _crowded(timing: Timing, setup: Setup) -> bool:
    """Whether all cores read and none is free to hand the GPU its work in time: it then seems busy, and is not."""
    useful = setup.utilisation(timing.images * setup.processes / timing.seconds)
    reading = timing.reading / timing.seconds
    return setup.on_gpu and useful is not None and useful < IDLE and reading > CROWDED * setup.cores


def _starving(timing: Timing, setup: Setup) -> Diagnosis:
    useful = setup.utilisation(timing.images * setup.processes / timing.seconds)
    fewer = min(setup.cores - 2, setup.workers - 1)
    return Diagnosis(
        bound="decode",
        sentence=f"{setup.device} works at {useful:.0%} of its peak and gets its work late, as {setup.workers} workers "
        f"keep {_count(setup.cores, 'core')} busy with reading: {PACK}"
        + (f", or set --data.workers {fewer}" if fewer > 0 else ""),
    )


def _communication(timing: Timing, setup: Setup) -> Diagnosis:
    exchange, compute = _milliseconds(setup.gradients), _milliseconds(timing.compute / timing.steps)
    return Diagnosis(
        bound="communication",
        sentence=f"{setup.processes} processes exchange gradients for {exchange} a step of {compute}, more than hides "
        "behind the arithmetic; exchange them less often with a larger --train.batch-size (and --train.accumulate "
        "where memory is short), or use fewer processes",
    )


def _copying(share: float, timing: Timing, setup: Setup) -> str:
    return (
        f"{share:.0%} of the time goes into copying images to the device; "
        "lower the size of the images, or put the GPU on a faster bus"
    )


def _augmenting(share: float, timing: Timing, setup: Setup) -> str:
    each = _milliseconds(timing.augment / timing.images)
    place = "GPU" if setup.on_gpu else "CPU, which also computes the model"
    return (
        f"{share:.0%} of the time goes into augmentation, {each} an image on the {place}; "
        "leave out what the model can do without (vitral train RECIPE --help lists augment.*)"
    )


def _computing(share: float, timing: Timing, setup: Setup) -> str:
    head = f"{share:.0%} of the time is the model's own arithmetic"
    useful = setup.utilisation(timing.images * setup.processes / timing.seconds)
    if useful is not None:
        head += f", at {useful:.0%} of the peak of {setup.device}"
    if not setup.on_gpu:
        return f"{head}: as it should be; only a smaller model, smaller images or a GPU make it faster"
    if not setup.half:
        return f"{head}; --train.precision bfloat16 makes it about twice as fast"
    if not setup.compiled:
        return f"{head}; --train.compile True makes it faster"
    if useful is not None and useful < IDLE:
        return f"{head}; raise --train.batch-size until memory is full"
    return f"{head}: as it should be; more devices make it faster"


SENTENCES = {"copy": _copying, "augment": _augmenting, "compute": _computing}


def _milliseconds(seconds: float) -> str:
    milliseconds = 1000 * seconds
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.2g} ms"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
