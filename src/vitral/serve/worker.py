"""The process of a worker: computes what it is sent until it is stopped, or the service is gone."""

import logging
import os
import signal
from concurrent.futures import CancelledError, Future
from contextlib import nullcontext, redirect_stderr
from io import StringIO
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Thread
from typing import Any

import torch

from vitral.errors import UserError
from vitral.serve.batching import DeadlinePassed
from vitral.serve.config import ServeConfig
from vitral.serve.engine import Request
from vitral.serve.pools import Loader, LocalPool
from vitral.serve.problems import Problem

__all__ = ["run_worker"]


class _LogSender(logging.Handler):
    """Sends what is logged to the service, whose log has a form."""

    def __init__(self, outbox: SimpleQueue) -> None:
        super().__init__()
        self.outbox = outbox

    def emit(self, record: logging.LogRecord) -> None:
        self.outbox.put(("log", record.levelno, self.format(record)))


class ComputationFailed(Exception):
    """Stands for an error that may not be picklable; its traceback is in the log."""


def run_worker(connection: Connection, load: Loader, config: ServeConfig, noisy: bool) -> None:
    """Loads the models and computes.

    Args:
        connection: to the service.
        load: gives the models.
        config: how they are batched.
        noisy: whether notes on the models are printed.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # a terminal sends them to all processes; the service decides
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max((os.cpu_count() or 1) // max(config.workers, 1), 1))
    outbox: SimpleQueue[Any] = SimpleQueue()
    sender = Thread(target=_post, args=(connection, outbox), daemon=True)
    sender.start()
    log = logging.getLogger("vitral.serve")
    log.addHandler(_LogSender(outbox))
    log.propagate = False
    try:
        with nullcontext() if noisy else redirect_stderr(StringIO()):
            pool = LocalPool(load, config, lambda name, stats: outbox.put(("stats", name, stats)))
        outbox.put(("facts", pool.facts))
        pool.start().result()
    except UserError as error:
        outbox.put(("error", error))
    else:
        outbox.put(("ready",))
        _serve(connection, pool, outbox)
    outbox.put(None)
    sender.join()


def _serve(connection: Connection, pool: LocalPool, outbox: SimpleQueue) -> None:
    """Computes until the service sends None."""
    running: dict[int, Future] = {}
    while (message := _received(connection)) is not None:
        number, work = message
        if work is None:
            if job := running.pop(number, None):
                job.cancel()
            continue
        name, request = work
        assert isinstance(request, Request)
        job = running[number] = pool.submit(name, request)
        job.add_done_callback(lambda job, number=number: _answer(job, number, running, outbox))
    pool.close()


def _received(connection: Connection) -> Any:
    try:
        return connection.recv()
    except (EOFError, OSError):
        os._exit(1)  # the service is gone, and nobody waits for an answer


def _answer(job: Future, number: int, running: dict[int, Future], outbox: SimpleQueue) -> None:
    running.pop(number, None)
    try:
        outbox.put(("done", number, job.result(), None))
    except CancelledError:
        pass
    except (Problem, DeadlinePassed) as error:
        outbox.put(("done", number, None, error))
    except Exception as error:
        outbox.put(("done", number, None, ComputationFailed(str(error))))


def _post(connection: Connection, outbox: SimpleQueue) -> None:
    while (message := outbox.get()) is not None:
        try:
            connection.send(message)
        except OSError:
            os._exit(1)
