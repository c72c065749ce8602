"""Measures all contenders in turns, batch by batch."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from vitral.commands.bench.contenders import Contender
from vitral.inspection.disturbances import Disturbances, Watch, fixed_work
from vitral.inspection.peak_memory import measure_growth, peak_bytes
from vitral.inspection.timing import MIN_ROUNDS, Latency, Ratio, Work, latency, relative_speed, time_in_turns
from vitral.train.resource_errors import is_out_of_memory

__all__ = ["Measurement", "Row", "measure"]

LARGEST = {"cpu": 64, "cuda": 1024}
"""Largest batch that is tried without `--batch-size`."""

GAIN = 1.05
"""A batch counts as faster if it gives so many times the images per second."""

PATIENCE = 2
"""Batch sizes in a row that are no faster before larger ones are left out."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One contender at one batch size."""

    contender: Contender
    batch_size: int
    latency: Latency
    ratio: Ratio
    """Speed relative to the first contender of the same architecture."""
    memory: int | None
    """Peak bytes: weights, and what a call takes."""

    @property
    def images_per_second(self) -> float:
        """At the median latency."""
        return self.batch_size / self.latency.p50


@dataclass(kw_only=True)
class Measurement:
    """All rows, and what is to be known of them."""

    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    disturbances: Disturbances | None = None


def measure(
    contenders: Sequence[Contender],
    *,
    device: torch.device,
    batch_sizes: Sequence[int] | None,
    seconds: float,
    advance: Callable[[], object] = lambda: None,
) -> Measurement:
    """Measures every contender at every batch size.

    Args:
        contenders: what to measure.
        device: where PyTorch's models compute.
        batch_sizes: None: powers of two, until none is faster any more.
        seconds: time to measure all, without preparation.
        advance: called after each batch size.
    """
    found = Measurement()
    sizes = list(batch_sizes) if batch_sizes else _powers_of_two(LARGEST.get(device.type, LARGEST["cuda"]))
    held = {id(each): each.held for each in contenders}
    active, spent, product, product_seconds = list(contenders), 0.0, fixed_work(device), []
    watch = Watch(device)
    for size in sizes:
        if batch_sizes is None and _saturated(found.rows, size):
            break
        if batch_sizes is None and spent + _expected_seconds(found.rows) > seconds:
            found.notes.append(f"batches from {size} on are left out: raise --seconds to measure them")
            break
        ready = _prepare(active, size, held, found)
        active = [each for each, _, _ in ready]
        if not ready:
            break
        work: dict[str, Work] = {str(number): call for number, (_, call, _) in enumerate(ready)}
        start = time.perf_counter()
        times = time_in_turns(work | {"product": product}, seconds=seconds / len(sizes))
        spent += time.perf_counter() - start
        product_seconds += times["product"]
        found.rows += _rows(ready, size, times)
        advance()
    found.disturbances = watch.read(product_seconds)
    return found


Ready = tuple[Contender, Work, int | None]
"""A contender, what it computes, and its peak memory."""


def _prepare(
    contenders: Sequence[Contender], size: int, held: dict[int, int | None], found: Measurement
) -> list[Ready]:
    """Warms up the contenders and measures their memory. One that fails is left out from here on, with a note."""
    ready: list[Ready] = []
    for each in contenders:
        try:
            work = each.prepare(size)
            growth = measure_growth(work, each.device)
        except Exception as error:
            if is_out_of_memory(error):
                reason = "out of memory"
            elif type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            else:
                raise
            found.notes.append(f"{each.model}, {each.by}: not measured from batch {size} on: {reason}")
            continue
        ready.append((each, work, peak_bytes(held[id(each)], growth)))
        held[id(each)] = _sum(held[id(each)], growth.kept)
    return ready


def _rows(ready: Sequence[Ready], size: int, times: dict[str, list[float]]) -> Iterator[Row]:
    for number, (each, _, memory) in enumerate(ready):
        first = next(index for index, other in enumerate(ready) if other[0].architecture == each.architecture)
        yield Row(
            contender=each,
            batch_size=size,
            latency=latency(times[str(number)]),
            ratio=relative_speed(times[str(number)], times[str(first)]),
            memory=memory,
        )


def _saturated(rows: Sequence[Row], size: int) -> bool:
    """Whether the batch sizes just before `size` were no faster than smaller ones, for any contender."""
    recent = size // 2**PATIENCE
    for each in {id(row.contender): row.contender for row in rows}.values():
        speeds = {row.batch_size: row.images_per_second for row in rows if row.contender is each}
        before = max((speed for batch, speed in speeds.items() if batch < recent), default=0.0)
        after = max((speed for batch, speed in speeds.items() if batch >= recent), default=0.0)
        if after > GAIN * before:
            return False
    return bool(rows)


def _expected_seconds(rows: Sequence[Row]) -> float:
    """Time that the next batch size, twice as large, takes at least."""
    last = [row.latency.p50 for row in rows if row.batch_size == rows[-1].batch_size]
    return 2 * MIN_ROUNDS * sum(last, 0.0)


def _powers_of_two(largest: int) -> list[int]:
    return [2**exponent for exponent in range(largest.bit_length())]


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second
