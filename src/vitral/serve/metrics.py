"""Figures of the service for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from vitral.serve.batching import BatchStats

__all__ = ["Metrics"]

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counters and histograms of one application, in a registry of its own."""

    def __init__(self, *, max_batch: int) -> None:
        """
        Args:
            max_batch: images of the largest batch.
        """
        self.registry = CollectorRegistry()
        self.requests = Counter("vitral_requests", "Requests answered.", ["path", "status"], registry=self.registry)
        self.seconds = Histogram(
            "vitral_request_seconds",
            "Time from the head of a request to the end of its answer.",
            ["path"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.images = Counter(
            "vitral_images",
            "Images that a batch computed, or dropped as their client was gone or their deadline had passed.",
            ["model", "outcome"],
            registry=self.registry,
        )
        self.batch_images = Histogram(
            "vitral_batch_images",
            "Images in a batch.",
            ["model"],
            buckets=_powers_of_two(max_batch),
            registry=self.registry,
        )
        self.batch_seconds = Histogram(
            "vitral_batch_seconds", "Time to compute a batch.", ["model"], buckets=SECONDS, registry=self.registry
        )
        self.queue = Gauge(
            "vitral_queue_images", "Images that wait or are computed.", ["model"], registry=self.registry
        )

    def observe_batches(self, model: str) -> Callable[[BatchStats], None]:
        """A function that records the batches of a model."""
        outcomes = {name: self.images.labels(model, name) for name in ("computed", "cancelled", "expired")}
        images, seconds = self.batch_images.labels(model), self.batch_seconds.labels(model)

        def observe(stats: BatchStats) -> None:
            for name, counter in outcomes.items():
                counter.inc(getattr(stats, name))
            if stats.computed:
                images.observe(stats.computed)
                seconds.observe(stats.seconds)

        return observe

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)


def _powers_of_two(last: int) -> list[int]:
    """1, 2, 4 ... and `last`."""
    powers = [2**power for power in range(last.bit_length())]
    return powers if powers[-1] == last else [*powers, last]
