"""How glibc keeps memory that was freed; other C libraries have no such settings, and nothing is done there."""

import ctypes
from contextlib import suppress

__all__ = ["return_freed_memory", "share_heap"]

ARENA_MAX = -8
"""glibc's number of the setting."""


def share_heap() -> None:
    """Lets all threads of this process allocate from one heap.

    Otherwise each new thread may get its own, which grows with what the thread takes and is never returned whole.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(ARENA_MAX, 1)


def return_freed_memory() -> None:
    """Gives the system what is free in the heap, which takes milliseconds."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
