"""Work on many images at once; decoding and hashing leave Python's lock alone, so threads do."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TypeVar

__all__ = ["in_threads"]

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
    try:
        yield from pool.map(work, items)
    finally:
        if stop is not None:
            stop.set()
        pool.shutdown(cancel_futures=True)
