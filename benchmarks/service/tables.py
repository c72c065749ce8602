"""The tables of benchmarks/serving.py."""

import statistics
from collections import defaultdict
from dataclasses import dataclass, field

from service.load import Load

__all__ = ["Bare", "Soak", "Speeds"]

LEAST_SPEED = 0.85
"""Of the bare model's, which the service must reach."""

MOST_GROWTH = 0.03
"""Of the memory, which the service may take under load."""


@dataclass
class Bare:
    """The model on batches in memory."""

    images: int
    seconds: float
    cpu_seconds: float

    @property
    def speed(self) -> float:
        """Images per second."""
        return self.images / self.seconds


@dataclass(kw_only=True)
class Speeds:
    """The bare model and the services, one entry a round."""

    fastest: int
    """Images a batch at which the bare model is fastest."""
    batch: int
    """Images a batch of the services."""
    max_wait: float
    """Seconds, of the services."""
    bare: list[Bare] = field(default_factory=list)
    """At the fastest size."""
    served: list[Bare] = field(default_factory=list)
    """At the services' size."""
    full: defaultdict[str, list[Load]] = field(default_factory=lambda: defaultdict(list))
    half: defaultdict[str, list[Load]] = field(default_factory=lambda: defaultdict(list))

    def table(self) -> str:
        """Medians over rounds, and what the service has to reach."""
        speed = statistics.median(one.speed for one in self.bare)
        cpu = statistics.median(1000 * one.cpu_seconds / one.images for one in self.bare)
        lines = [
            f"The bare model computes batches of {self.fastest}, the services of {self.batch}. Medians of "
            f"{len(self.bare)} rounds, ratios within a round:\n",
            "| | images/s | of bare | CPU ms an image | p50, p99 full load | p50, p99 half load |",
            "|---|---|---|---|---|---|",
            f"| bare | {speed:.1f} | | {cpu:.1f} | | |",
            *(self._row(service) for service in self.full),
        ]
        limit = 1000 * (2 * self.batch / statistics.median(one.speed for one in self.served) + self.max_wait)
        ratio, p99 = self._of_bare("vitral serve"), _quantile(self.half["vitral serve"], 0.99)
        loads = [*self.full["vitral serve"], *self.half["vitral serve"]]
        wrong, lost = sum(load.wrong for load in loads), sum(load.lost for load in loads)
        lines += [
            "",
            _verdict(f"at least {LEAST_SPEED:.0%} of bare", f"{ratio:.0%}", ratio >= LEAST_SPEED),
            _verdict(
                f"p99 at half load below twice the time of a batch and the wait, {limit:.0f} ms",
                f"{p99:.0f} ms",
                p99 < limit,
            ),
            _verdict("no answer for another image and none lost", f"{wrong} and {lost}", wrong == lost == 0),
            *(self._comparison(service) for service in self.full if service != "vitral serve"),
        ]
        return "\n".join(lines)

    def _row(self, service: str) -> str:
        full, half = self.full[service], self.half[service]
        cpu = statistics.median(1000 * load.cpu_seconds / max(len(load.times), 1) for load in full)
        times = [f"{_quantile(loads, 0.5):.0f}, {_quantile(loads, 0.99):.0f} ms" for loads in (full, half)]
        ratio = self._of_bare(service)
        return f"| {service} | {_speed(full):.1f} | {ratio:.0%} | {cpu:.1f} | {times[0]} | {times[1]} |"

    def _of_bare(self, service: str) -> float:
        return statistics.median(
            load.speed / one.speed for load, one in zip(self.full[service], self.bare, strict=True)
        )

    def _comparison(self, service: str) -> str:
        ours, theirs = "vitral serve", service
        speed = statistics.median(a.speed / b.speed for a, b in zip(self.full[ours], self.full[theirs], strict=True))
        ratios = {
            load: statistics.median(a.quantile(0.99) / b.quantile(0.99) for a, b in zip(*pair, strict=True))
            for load, pair in {
                "full": (self.full[ours], self.full[theirs]),
                "half": (self.half[ours], self.half[theirs]),
            }.items()
        }
        found = f"{speed:.2f} times the images/s, {ratios['full']:.2f} and {ratios['half']:.2f} times the p99"
        return _verdict(
            f"more than {service} answers, p99 below its at full and half load", found, speed > 1 > max(ratios.values())
        )


@dataclass(kw_only=True)
class Soak:
    """Twice the capacity for long."""

    capacity: float
    bare: float
    """Images per second: of the bare model before and after."""
    timeout: float
    queue_limit: int
    client_cpu_seconds: float = 0.0
    load: Load = field(default_factory=Load)
    memory: list[float] = field(default_factory=list)
    """Resident MB at each second."""
    queue: list[float] = field(default_factory=list)
    """Images that wait or are computed, at each second."""

    def so_far(self) -> str:
        """What became of the requests until now."""
        statuses = ", ".join(f"{count} answered {status}" for status, count in sorted(self.load.statuses.items()))
        lost = f"{self.load.lost} lost, {self.load.wrong} wrong"
        return f"{statuses}, {lost}; {self.memory[-1]:.0f} MB, {self.queue[-1]:.0f} images wait"

    def table(self) -> str:
        """What became of the requests, and what had to hold."""
        load = self.load
        early, late = (
            statistics.median(part) for part in (self.memory[len(self.memory) // 5 :][:30], self.memory[-30:])
        )
        overdue = sum(seconds > self.timeout + load.lag for seconds in load.since_sent)
        ratio, growth, longest = load.speed / self.bare, late / early - 1, max(self.queue)
        latest = max(load.since_sent, default=0.0)
        lines = [
            f"At {2 * self.capacity:.1f} requests per second, twice the capacity, for {load.seconds:.0f} s:\n",
            "| | |",
            "|---|---|",
            *(f"| answered {status} | {count} |" for status, count in sorted(load.statuses.items())),
            f"| p50, p99 of answers | {load.quantile(0.5):.0f}, {load.quantile(0.99):.0f} ms |",
            f"| CPU time of the service | {load.cpu_seconds:.0f} s |",
            f"| CPU time of the client | {self.client_cpu_seconds:.0f} s |",
            "",
            _verdict("no request lost", str(load.lost), load.lost == 0),
            _verdict("none answered for another image", str(load.wrong), load.wrong == 0),
            _verdict(
                f"none answered 200 after its {self.timeout:g} s, but for the client's lag, {1000 * load.lag:.0f} ms",
                f"{overdue}, latest {latest:.3f} s",
                overdue == 0,
            ),
            _verdict(
                f"memory from the first fifth to the end flat within {MOST_GROWTH:.0%}",
                f"{early:.0f} to {late:.0f} MB, {growth:+.1%}",
                abs(growth) <= MOST_GROWTH,
            ),
            _verdict(f"queue of at most {self.queue_limit}", f"{longest:.0f}", longest <= self.queue_limit),
            _verdict(
                f"at least {LEAST_SPEED:.0%} of the bare model's {self.bare:.1f} images/s before and after",
                f"{load.speed:.1f} images/s, {ratio:.0%}",
                ratio >= LEAST_SPEED,
            ),
        ]
        return "\n".join(lines)


def _speed(loads: list[Load]) -> float:
    return statistics.median(load.speed for load in loads)


def _quantile(loads: list[Load], fraction: float) -> float:
    """Milliseconds."""
    return statistics.median(load.quantile(fraction) for load in loads)


def _verdict(wanted: str, found: str, holds: bool) -> str:
    return f"- {'holds' if holds else 'DOES NOT HOLD'}: {wanted}: {found}"
