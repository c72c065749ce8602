"""Dynamic batching: a few threads compute what many requests submit, together."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from statistics import fmean
from threading import Condition, Thread
from typing import Any

from vitral.errors import UserError

__all__ = ["BatchStats", "Batcher", "DeadlinePassed", "Task"]

LOG = logging.getLogger("vitral.serve")

Task = Callable[[list[Any]], Sequence[Any]]
"""Computes one result for each item of a batch, in order."""


RECENT = 8
"""Batches of a task whose mean time is what the next one is expected to take."""

SMALL_PARTS = 8
"""Parts of what waits, one of which a batch takes where batches save no time."""


class DeadlinePassed(Exception):
    """An item was not computed, as its result would have come after its deadline."""


@dataclass(frozen=True, kw_only=True)
class BatchStats:
    """What happened to the items of one batch."""

    computed: int
    """Items in the batch; 0 if nothing was left to compute."""
    cancelled: int
    """Items dropped because nobody waits for them any more."""
    expired: int
    """Items dropped because their deadline had passed."""
    seconds: float
    """Time that the computation took."""
    num_threads: int = 1
    """Batches that are computed at a time, this one included, while enough items wait."""
    warm_up: bool = False
    """Whether it was a model's first batch, which counts as one item but takes the time of several."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Job:
    task: Task
    item: Any
    deadline: float
    future: Future = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)


class Batcher:
    """Collects items into batches and computes them in threads of its own, first come, first served.

    A batch starts when it is full, or when its first item has waited for `max_wait`. Items of different tasks never
    share a batch.
    """

    def __init__(
        self,
        *,
        name: str,
        max_batch: int,
        max_wait: float,
        observe: Callable[[BatchStats], None] = lambda _: None,
        num_threads: int = 1,
        initializer: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Args:
            name: of the threads.
            max_batch: items that are computed together at most.
            max_wait: seconds that the first item of a batch waits at most for others.
            observe: called in the thread after each batch, before its results are set.
            num_threads: batches that are computed at a time. What waits is divided among the threads.
            initializer: called in each thread when it starts.
        """
        self.max_batch, self.max_wait, self.observe, self.initializer = max_batch, max_wait, observe, initializer
        self._jobs: deque[_Job] = deque()
        self._seconds: dict[Task, deque[float]] = {}
        self._changed = Condition()
        self._closing = False
        self._parts = num_threads
        self._threads = [Thread(target=self._work, name=name, daemon=True) for _ in range(num_threads)]

    def start(self) -> None:
        """Starts the threads."""
        for thread in self._threads:
            thread.start()

    def prefer_small(self) -> None:
        """Batches start at once and take a fraction of what waits: all items of a batch wait for its last one.

        For tasks whose batches save little time. Under load many items wait, so that batches are large nevertheless.
        """
        with self._changed:
            self.max_wait, self._parts = 0.0, SMALL_PARTS

    def close(self) -> None:
        """Computes what is queued, then ends the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def submit(self, task: Task, item: Any, *, deadline: float) -> Future:
        """Queues an item; cancel the future if its result is no longer needed.

        Args:
            task: computes it, together with other items of the same task.
            item: what the task takes.
            deadline: reading of `time.monotonic()`. An item whose batch would end later is not computed, but its future
                raises `DeadlinePassed`: a queue that is too long would be computed in vain, each item just too late.
        """
        job = _Job(task=task, item=item, deadline=deadline)
        with self._changed:
            assert not self._closing, "the batcher is closed"
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def _work(self) -> None:
        self.initializer()
        while (jobs := self._next()) is not None:
            self._compute(jobs)
            del jobs  # their images would stay in memory until the next batch

    def _next(self) -> list[_Job] | None:
        """The jobs of the next batch; None when all is done."""
        with self._changed:
            while True:
                if not self._jobs:
                    if self._closing:
                        return None
                    self._changed.wait()
                    continue
                left = self._jobs[0].arrived + self.max_wait - time.monotonic()
                if len(self._jobs) >= self.max_batch or self._closing or left <= 0:
                    jobs = self._take()
                    if self._jobs:
                        self._changed.notify()  # another thread may have slept through the news of these
                    return jobs
                self._changed.wait(left)

    def _take(self) -> list[_Job]:
        """Removes the first job and those that may share its batch; jobs that need no computation count for nothing."""
        task, taken, others, count = self._jobs[0].task, [], [], 0
        most = min(math.ceil(len(self._jobs) / self._parts), self.max_batch)
        while self._jobs and count < most:
            job = self._jobs.popleft()
            if job.task != task:
                others.append(job)
                continue
            taken.append(job)
            count += not (job.future.cancelled() or self._is_late(job, time.monotonic()))
        self._jobs.extendleft(reversed(others))
        return taken

    def _compute(self, jobs: list[_Job]) -> None:
        running = [job for job in jobs if job.future.set_running_or_notify_cancel()]
        now = time.monotonic()
        with self._changed:
            late = {job for job in running if self._is_late(job, now)}
        live = [job for job in running if job not in late]
        results: Sequence[Any] | Exception = self._run(live) if live else []
        with self._changed:
            if live:
                self._seconds.setdefault(jobs[0].task, deque(maxlen=RECENT)).append(time.monotonic() - now)
            elif late:
                self._seconds.pop(jobs[0].task, None)  # or a batch that was slow once would refuse all items for ever
        stats = BatchStats(
            computed=len(live),
            cancelled=len(jobs) - len(running),
            expired=len(running) - len(live),
            seconds=time.monotonic() - now,
            num_threads=len(self._threads),
        )
        self.observe(stats)  # before the results, so that who has an answer finds it counted
        for job in late:
            job.future.set_exception(DeadlinePassed())
        if isinstance(results, Exception):
            for job in live:
                job.future.set_exception(results)
        else:
            for job, result in zip(live, results, strict=True):
                job.future.set_result(result)

    def _is_late(self, job: _Job, now: float) -> bool:
        """Whether a batch that begins now would end after a job's deadline."""
        seconds = self._seconds.get(job.task)
        return job.deadline <= now + (fmean(seconds) if seconds else 0.0)

    def _run(self, jobs: list[_Job]) -> Sequence[Any] | Exception:
        """A result for each job, or the error of all."""
        try:
            results = jobs[0].task([job.item for job in jobs])
            assert len(results) == len(jobs), "a task gives one result for each item"
        # whatever a batch raises, the thread goes on: its requests get the error, the next ones an answer
        except Exception as error:
            if not isinstance(error, UserError):
                LOG.exception("a batch of %d images failed", len(jobs))
            return error
        return results
