"""Processes that end with the one that started them."""

import ctypes
import multiprocessing
import os
import signal
import sys
from types import TracebackType

__all__ = ["die_with_parent"]

PR_SET_PDEATHSIG = 1
"""Number of the request to `prctl`, of Linux."""


def die_with_parent() -> None:
    """From now on Linux kills this process when the one that started it dies, even by SIGKILL.

    It would otherwise hold its memory for seconds, and print a traceback about a broken pipe. Elsewhere it only ignores
    the broken pipe.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sys.excepthook = _ignore_lost_parent
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent.pid:  # it died before the request
        os._exit(1)


def _ignore_lost_parent(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Prints what a thread raises, unless its pipe broke: Linux closes a dead process's pipes before its children die.

    `multiprocessing` calls the hook in the thread that hands open files to the parent. A parent that lives fails by
    itself when it does not get them.
    """
    if not isinstance(error, EOFError | OSError):
        sys.__excepthook__(kind, error, traceback)
