"""Models computed in processes of their own: one that dies costs its requests, not the service."""

import atexit
import logging
import multiprocessing
import time
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any

from vitral.errors import UserError
from vitral.serve.config import ServeConfig
from vitral.serve.engine import ModelFacts, Outcome, Request
from vitral.serve.pools import Loader, Observe
from vitral.serve.problems import Problem
from vitral.serve.worker import run_worker

__all__ = ["WorkerPool"]

LOG = logging.getLogger("vitral.serve")

MAX_PAUSE = 30.0
"""Seconds until a worker that keeps dying is started again, at most."""

HEALTHY_SECONDS = 60.0
"""A worker that lived longer is replaced at once."""


class WorkerPool:
    """Spreads requests over processes, and replaces those that die."""

    def __init__(self, load: Loader, config: ServeConfig, observe: Observe) -> None:
        """
        Args:
            load: gives the models; called in every process, so it must be picklable.
            config: how many processes, and how they batch.
            observe: called in a thread after each batch.

        Raises:
            UserError: a model cannot be loaded or served, or a process ends before it has loaded its models.
        """
        self._workers = [Worker(number, (load, config), observe, noisy=number == 0) for number in range(config.workers)]
        atexit.register(self.kill)  # before multiprocessing waits for its processes, which are deaf to its signal
        try:
            self.facts, *_ = [worker.facts.result() for worker in self._workers]
        except BaseException:
            self.close()
            raise

    def start(self) -> Future:
        """As in `ModelPool`; the processes have begun already."""
        started: Future = Future()

        def wait() -> None:
            try:
                for worker in self._workers:
                    worker.warm.result()
            except Exception as error:
                started.set_exception(error)
            else:
                started.set_result(None)

        Thread(target=wait, name="workers start", daemon=True).start()
        return started

    def ready(self, name: str) -> bool:
        """As in `ModelPool`."""
        return any(worker.ready for worker in self._workers)

    def submit(self, name: str, request: Request) -> Future[Outcome]:
        """As in `ModelPool`: to the process with the least to do."""
        ready = [worker for worker in self._workers if worker.ready]
        if not ready:
            failed: Future[Outcome] = Future()
            failed.set_exception(_gone())
            return failed
        return min(ready, key=lambda worker: worker.load).submit(name, request)

    def close(self) -> None:
        """As in `ModelPool`."""
        for worker in self._workers:
            worker.end()
        for worker in self._workers:
            worker.join()
        atexit.unregister(self.kill)

    def kill(self) -> None:
        """Ends the processes at once."""
        for worker in self._workers:
            worker.kill()


class Worker:
    """One process after the other, and the thread that listens to them."""

    def __init__(self, number: int, arguments: tuple[Loader, ServeConfig], observe: Observe, *, noisy: bool) -> None:
        """
        Args:
            number: of the worker.
            arguments: of the process.
            observe: called after each batch.
            noisy: whether notes on the models are printed when the process starts.
        """
        self.number, self.arguments, self.observe, self.noisy = number, arguments, observe, noisy
        self.facts: Future[dict[str, ModelFacts]] = Future()
        self.warm: Future[None] = Future()
        self._life: _Life | None = None
        self._closing = Event()
        self._thread = Thread(target=self._supervise, name=f"worker {number}", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether its models have computed their first batches."""
        life = self._life
        return life is not None and life.ready

    @property
    def load(self) -> int:
        """Images that it has not answered."""
        life = self._life
        return len(life.pending) if life else 0

    def submit(self, name: str, request: Request) -> Future[Outcome]:
        """Sends a request to the process."""
        assert self._life is not None
        return self._life.submit(name, request)

    def end(self) -> None:
        """Lets the process finish what it has."""
        self._closing.set()
        if life := self._life:
            life.close()

    def kill(self) -> None:
        """Ends the process at once."""
        self._closing.set()
        if life := self._life:
            life.process.kill()

    def join(self) -> None:
        """Waits for the end."""
        self._thread.join()

    def _supervise(self) -> None:
        pause = 0.0
        while not self._closing.is_set():
            began = time.monotonic()
            status = self._live()
            if self._closing.is_set():
                break
            first = not self.warm.done()
            _fail(self.facts, UserError(f"a worker ended with {status} before it had loaded its models"))
            _fail(self.warm, UserError(f"a worker ended with {status} before it was ready"))
            if first:
                return  # the service does not start
            lived = time.monotonic() - began
            pause = 0.0 if lived > HEALTHY_SECONDS else min(max(2 * pause, 1.0), MAX_PAUSE)
            LOG.error("worker %d ended with %s: starting another in %g s", self.number, status, pause)
            self._closing.wait(pause)

    def _live(self) -> str:
        """Runs one process to its end; how it ended."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=run_worker, args=(theirs, *self.arguments, self.noisy and not self.warm.done()), daemon=True
        )
        process.start()
        theirs.close()
        life = self._life = _Life(ours, process)
        if self._closing.is_set():
            life.close()
        try:
            while True:
                self._hear(life, *ours.recv())
        except (EOFError, OSError):
            pass
        finally:
            self._life = None
            life.end()
        process.join()
        code = process.exitcode or 0
        return f"signal {-code}" if code < 0 else f"status {code}"

    def _hear(self, life: "_Life", kind: str, *values: Any) -> None:
        if kind == "done":
            life.settle(*values)
        elif kind == "stats":
            self.observe(*values)
        elif kind == "log":
            LOG.log(values[0], "worker %d: %s", self.number, values[1])
        elif kind == "facts" and not self.facts.done():
            self.facts.set_result(*values)
        elif kind == "ready":
            life.ready = True
            if not self.warm.done():
                self.warm.set_result(None)
        elif kind == "error":
            if self.warm.done():
                LOG.error("worker %d: %s", self.number, values[0])
            _fail(self.facts, values[0])
            _fail(self.warm, values[0])


@dataclass(eq=False)
class _Life:
    """A running process as seen from here."""

    connection: Any
    process: BaseProcess
    ready: bool = False
    pending: dict[int, Future[Outcome]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)
    _numbers: Any = field(default_factory=count)
    _outbox: SimpleQueue = field(default_factory=SimpleQueue)
    _ended: bool = False

    def __post_init__(self) -> None:
        # a thread of its own: a process that is slow to listen must not hold up the service
        Thread(target=self._post, name="worker outbox", daemon=True).start()

    def close(self) -> None:
        """Lets the process finish what it has; one that is not ready has nothing."""
        if self.ready:
            self._outbox.put(None)
        else:
            self.process.kill()

    def submit(self, name: str, request: Request) -> Future[Outcome]:
        outcome: Future[Outcome] = Future()
        with self._lock:
            number = next(self._numbers)
            if self._ended:
                outcome.set_exception(_gone())
                return outcome
            self.pending[number] = outcome
        self._outbox.put((number, (name, request)))
        outcome.add_done_callback(lambda done: self._cancel(number) if done.cancelled() else None)
        return outcome

    def _cancel(self, number: int) -> None:
        with self._lock:
            self.pending.pop(number, None)
        self._outbox.put((number, None))

    def settle(self, number: int, result: Outcome | None, error: Exception | None) -> None:
        with self._lock:
            outcome = self.pending.pop(number, None)
        if outcome is None or not outcome.set_running_or_notify_cancel():
            return
        if result is None:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)

    def end(self) -> None:
        with self._lock:
            self._ended, self.ready = True, False
            lost = list(self.pending.values())
            self.pending.clear()
        for outcome in lost:
            if outcome.set_running_or_notify_cancel():
                outcome.set_exception(_gone())
        self._outbox.put(_END)

    def _post(self) -> None:
        while (message := self._outbox.get()) is not _END:
            with suppress(OSError):  # the process has ended, and its requests have been answered
                self.connection.send(message)
        self.connection.close()


_END = object()


def _gone() -> Problem:
    return Problem(503, "the process that computed the image ended: try again", retry_after=1)


def _fail(future: Future, error: Exception) -> None:
    with suppress(InvalidStateError):
        future.set_exception(error)
