"""Work on many images at once; decoding and hashing leave Python's lock alone, so threads do."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import TypeVar

__all__ = ["in_threads"]

AHEAD = 16
"""Pieces of work for each thread that may be done before they are asked for."""

T = TypeVar("T")
R = TypeVar("R")


def in_threads(work: Callable[[T], R], items: Iterable[T], *, threads: int, stop: Event | None = None) -> Iterator[R]:
    """Results in the order of the items; after an error or Ctrl-C what has not begun is dropped.

    Args:
        work: what to do with each item.
        items: short pieces of work, as those that run are waited for.
        threads: how many at once.
        stop: set when no more results are wanted, for work that looks at it in between.
    """
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > AHEAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        if stop is not None:
            stop.set()
        pool.shutdown(cancel_futures=True)
