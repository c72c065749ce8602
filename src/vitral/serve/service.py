"""The served models as requests see them: queues with limits, and models that can be replaced while requests run."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager

from vitral.card import ModelCard
from vitral.errors import UserError
from vitral.serve.batching import BatchStats
from vitral.serve.config import ServeConfig
from vitral.serve.engine import ModelFacts, Outcome, Request, Task
from vitral.serve.metrics import Metrics
from vitral.serve.pools import ModelPool
from vitral.serve.problems import Problem
from vitral.serve.uploads import Upload

__all__ = ["Models", "Service"]

LOG = logging.getLogger("vitral.serve")


class Service:
    """One model with its queue."""

    def __init__(self, name: str, pool: ModelPool, config: ServeConfig, metrics: Metrics) -> None:
        self.name, self.config = name, config
        self._pool, self._gauge = pool, metrics.queue.labels(name)
        self._waiting, self._rate = 0, 0.0

    @property
    def facts(self) -> ModelFacts:
        """What the model is."""
        return self._pool.facts[self.name]

    @property
    def card(self) -> ModelCard:
        """What travels with the model."""
        return self.facts.card

    @property
    def ready(self) -> bool:
        """Whether it computes."""
        return self._pool.ready(self.name)

    def observe(self, stats: BatchStats) -> None:
        """Remembers the speed of all threads and processes together, for refusals; the warm-up says nothing of it."""
        if stats.computed and not stats.warm_up:
            num_threads = max(self.config.workers, 1) * stats.num_threads
            rate = num_threads * stats.computed / max(stats.seconds, 1e-6)
            self._rate += (rate - self._rate) / 8 if self._rate else rate

    async def compute(
        self, uploads: list[Upload], task: Task, *, deadline: float, layer: int | None = None
    ) -> list[Outcome]:
        """What a task gives for each image, in order.

        Args:
            uploads: the images.
            task: what to compute.
            deadline: reading of `time.monotonic()`.
            layer: the last one of the rollout of attention.

        Raises:
            Problem: the model is not ready, its queue is full or too long for the deadline, or no image can be read.
            DeadlinePassed: the deadline passed before all images were computed.
        """
        self.check_ready(deadline)
        count = len(uploads)
        if self._waiting + count > self.config.queue:
            raise self._full()
        self._add_waiting(count)
        try:
            requests = (Request(upload=upload, task=task, deadline=deadline, layer=layer) for upload in uploads)
            jobs = [asyncio.wrap_future(self._pool.submit(self.name, request)) for request in requests]
            results = await asyncio.gather(*jobs, return_exceptions=True)
        finally:
            self._add_waiting(-count)
        outcomes = []
        for result in results:
            if isinstance(result, BaseException):
                raise result
            outcomes.append(result)
        if all(outcome.problem for outcome in outcomes):
            problem = outcomes[0].problem
            assert problem is not None
            raise problem
        return outcomes

    def check_ready(self, deadline: float) -> None:
        """Checks that an image that comes now would be computed.

        Args:
            deadline: reading of `time.monotonic()`.

        Raises:
            Problem: the model is not ready, or its queue is full or too long for the deadline.
        """
        if not self.ready:
            raise Problem(503, f"the model {self.name} is not ready: try again", retry_after=1)
        if self._waiting >= self.config.queue or self._too_late(deadline):
            raise self._full()

    def _too_late(self, deadline: float) -> bool:
        """Whether the images that wait take longer than there is time; a few are computed together and never do."""
        ahead, most = self._waiting, self.config.max_batch
        return ahead > 2 * most and self._rate > 0 and (ahead + most) / self._rate > deadline - time.monotonic()

    def _add_waiting(self, count: int) -> None:
        self._waiting += count
        self._gauge.inc(count)

    def _full(self) -> Problem:
        seconds = max(math.ceil(self._waiting / self._rate), 1) if self._rate else 1
        detail = f"{self._waiting} images are waiting for the model {self.name}: try again in {seconds} s"
        return Problem(429, detail, retry_after=seconds)


class _Generation:
    """Models that were loaded together, and the number of requests that use them."""

    def __init__(self, pool: ModelPool, services: Mapping[str, Service]) -> None:
        self.pool, self.services = pool, services
        self.users = 0
        self.idle = asyncio.Event()
        self.idle.set()

    @contextmanager
    def used(self) -> Iterator[Mapping[str, Service]]:
        self.users += 1
        self.idle.clear()
        try:
            yield self.services
        finally:
            self.users -= 1
            if not self.users:
                self.idle.set()


class Models:
    """The served models by name, which `reload` replaces without losing a request."""

    def __init__(
        self, build: Callable[[Callable[[str, BatchStats], None]], ModelPool], config: ServeConfig, metrics: Metrics
    ) -> None:
        """
        Args:
            build: loads the models into a pool; its argument takes what happens to their batches.
            config: of their queues.
            metrics: records batches and queues.

        Raises:
            UserError: a model cannot be loaded.
        """
        self._build, self._config, self._metrics = build, config, metrics
        self._current = self._load()
        self._reloading = asyncio.Lock()

    @property
    def services(self) -> Mapping[str, Service]:
        """The models, for looking at; requests use `used`."""
        return self._current.services

    @contextmanager
    def used(self) -> Iterator[Mapping[str, Service]]:
        """The models, which stay until the context ends."""
        with self._current.used() as services:
            yield services

    def start(self) -> Future:
        """Begins to warm up; the result comes when all models are ready, or the error that prevents it."""
        return self._current.pool.start()

    async def reload(self) -> None:
        """Loads all models anew, and replaces the old ones once the new are ready.

        If that fails, the old ones stay, and the log says why.
        """
        async with self._reloading:
            fresh = None
            try:
                fresh = await asyncio.to_thread(self._load)
                await asyncio.wrap_future(fresh.pool.start())
            except BaseException as error:
                if fresh is not None:
                    await asyncio.to_thread(fresh.pool.close)
                if not isinstance(error, Exception):
                    raise
                LOG.error("the models stay as they were: %s", error, exc_info=not isinstance(error, UserError))
                return
            old, self._current = self._current, fresh
            LOG.info("the models were reloaded")
            await old.idle.wait()
            await asyncio.to_thread(old.pool.close)

    async def close(self) -> None:
        """Finishes what is queued and ends."""
        await asyncio.to_thread(self._current.pool.close)

    def _load(self) -> _Generation:
        services: dict[str, Service] = {}
        records = {}

        def observe(name: str, stats: BatchStats) -> None:
            if name in services:
                services[name].observe(stats)
                records[name](stats)

        pool = self._build(observe)
        for name in pool.facts:
            records[name] = self._metrics.observe_batches(name)
            services[name] = Service(name, pool, self._config, self._metrics)
        return _Generation(pool, services)
