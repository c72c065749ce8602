"""Maps a function over items in threads; decoding and hashing release the GIL, so threads suffice."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import TypeVar

__all__ = ["parallel_map"]

AHEAD = 16
"""Results per thread that may be computed before they are consumed."""

T = TypeVar("T")
R = TypeVar("R")


def parallel_map(work: Callable[[T], R], items: Iterable[T], *, threads: int, stop: Event | None = None) -> Iterator[R]:
    """Yields results in the order of the items; after an error or Ctrl-C, calls that have not started are cancelled.

    Args:
        work: the function.
        items: its arguments; calls should be short, because running ones are waited for.
        threads: number of threads.
        stop: set when no more results are needed, for work that checks it.
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
