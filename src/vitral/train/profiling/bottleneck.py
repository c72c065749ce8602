"""The bottleneck of a run, and what to change, from measured times."""

from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

from vitral.train.profiling.setup import Setup
from vitral.train.profiling.stopwatch import Timing

__all__ = ["Bottleneck", "Stage", "find_bottleneck", "speed_table"]

Stage = Literal["decode", "augment", "copy", "compute", "communication"]

MAX_WAITING = 0.1
"""A run that waits for images for a larger fraction of its time is bound by them."""

SLOW_DECODE = 0.001
"""Seconds. An image that takes longer to decode is larger than necessary."""

BUSY_CORES = 0.7
"""If decoding takes at least this fraction of the cores' time, the training process competes with it."""

LOW_UTILISATION = 0.25
"""A GPU below this fraction of its peak has capacity left."""

MAX_OVERLAP = 0.5
"""Gradient all-reduce overlaps with the backward pass up to this fraction of a step's computation."""


@dataclass(frozen=True, kw_only=True)
class Bottleneck:
    """What limits the speed of a run."""

    stage: Stage
    advice: str
    """What was measured, and what to change."""


def find_bottleneck(timing: Timing, setup: Setup) -> Bottleneck:
    """The stage that limits the speed, and how to speed it up. `timing` has at least one step."""
    assert timing.steps > 0, "no steps were measured"
    if timing.waiting_fraction > MAX_WAITING:
        return _waiting(timing, setup)
    if setup.all_reduce_seconds * timing.steps > MAX_OVERLAP * timing.compute:
        return _communication(timing, setup)
    if _cores_are_busy(timing, setup):
        return _busy_cores(timing, setup)
    stages: dict[Stage, float] = {"copy": timing.copy, "augment": timing.augment, "compute": timing.compute}
    stage = max(stages, key=lambda name: stages[name])
    return Bottleneck(stage=stage, advice=ADVICE[stage](stages[stage] / timing.seconds, timing, setup))


def speed_table(timing: Timing, setup: Setup, *, memory: int) -> dict[str, Any]:
    """Throughput and seconds of each stage, as JSON values; `memory` is the peak in bytes."""
    rate = timing.images * setup.processes / timing.seconds
    bottleneck = find_bottleneck(timing, setup)
    parts = ("waiting", "copy", "augment", "compute", "other")
    return {
        "bottleneck": bottleneck.stage,
        "advice": bottleneck.advice,
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


def _waiting(timing: Timing, setup: Setup) -> Bottleneck:
    """Images arrive too slowly: either decoding or the transfer between processes is slow."""
    head = f"the run waits {timing.waiting_fraction:.0%} of its time for images"
    image = timing.reading / timing.images
    reader = "the training process" if not setup.workers else _count(setup.workers, "worker")
    read = f"reading takes {_milliseconds(image)} per image on {reader}"
    if timing.reading < 0.5 * timing.seconds * setup.workers:
        advice = "which is fast enough, but batches reach the training process slowly"
        fix = "increase shared memory, or lower --train.batch-size"
        return Bottleneck(stage="copy", advice=f"{head}: {read}, {advice}; {fix}")
    busy = timing.seconds - timing.waiting
    needed = ceil(1.05 * timing.reading / busy) if busy > 0 else setup.cores
    workers = max(min(needed, setup.cores), 1)
    if workers <= setup.workers:
        advice = f"{_count(setup.cores, 'core')} cannot read faster: {setup.pack}"
    elif workers < needed:
        advice = f"set --data.workers {workers} (all cores; {needed} would be needed, so also {setup.pack})"
    else:
        advice = f"set --data.workers {workers}" + (f", or {setup.pack}" if image > SLOW_DECODE else "")
    return Bottleneck(stage="decode", advice=f"{head}: {read}; {advice}")


def _cores_are_busy(timing: Timing, setup: Setup) -> bool:
    """Whether decoding takes all cores, so that kernels are launched late. The GPU's clock counts that as computing."""
    utilisation = setup.utilisation(timing.images * setup.processes / timing.seconds)
    reading = timing.reading / timing.seconds
    low = utilisation is not None and utilisation < LOW_UTILISATION
    return setup.on_gpu and low and reading > BUSY_CORES * setup.cores


def _busy_cores(timing: Timing, setup: Setup) -> Bottleneck:
    utilisation = setup.utilisation(timing.images * setup.processes / timing.seconds)
    fewer = min(setup.cores - 2, setup.workers - 1)
    return Bottleneck(
        stage="decode",
        advice=f"{setup.device} runs at {utilisation:.0%} of its peak because {setup.workers} workers keep "
        f"{_count(setup.cores, 'core')} busy with reading, which delays the training process: {setup.pack}"
        + (f", or set --data.workers {fewer}" if fewer > 0 else ""),
    )


def _communication(timing: Timing, setup: Setup) -> Bottleneck:
    exchange, compute = _milliseconds(setup.all_reduce_seconds), _milliseconds(timing.compute / timing.steps)
    return Bottleneck(
        stage="communication",
        advice=f"{setup.processes} processes exchange gradients for {exchange} of each step of {compute}, more than "
        "overlaps with the backward pass; exchange them less often with a larger --train.batch-size (and "
        "--train.accumulate where memory is short), or use fewer processes",
    )


def _copy(fraction: float, timing: Timing, setup: Setup) -> str:
    return (
        f"{fraction:.0%} of the time goes into copying images to the device; "
        "use smaller images, or a GPU on a faster bus"
    )


def _augment(fraction: float, timing: Timing, setup: Setup) -> str:
    each = _milliseconds(timing.augment / timing.images)
    place = "GPU" if setup.on_gpu else "CPU, which also computes the model"
    return (
        f"{fraction:.0%} of the time goes into augmentation, {each} per image on the {place}; "
        "turn off augmentations that you can do without (vitral train RECIPE --help lists augment.*)"
    )


def _compute(fraction: float, timing: Timing, setup: Setup) -> str:
    head = f"{fraction:.0%} of the time goes into the model"
    utilisation = setup.utilisation(timing.images * setup.processes / timing.seconds)
    if utilisation is not None:
        head += f", at {utilisation:.0%} of the peak of {setup.device}"
    if not setup.on_gpu:
        return f"{head}, as it should; use a smaller model, smaller images or a GPU to train faster"
    if not setup.half_precision:
        return f"{head}; --train.precision bfloat16 makes it about twice as fast"
    if not setup.compiled:
        return f"{head}; --train.compile True makes it faster"
    if utilisation is not None and utilisation < LOW_UTILISATION:
        return f"{head}; raise --train.batch-size until memory is full"
    return f"{head}, as it should; use more devices to train faster"


ADVICE = {"copy": _copy, "augment": _augment, "compute": _compute}


def _milliseconds(seconds: float) -> str:
    milliseconds = 1000 * seconds
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.2g} ms"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
