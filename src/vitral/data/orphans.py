"""Processes that end with the one that started them."""

import ctypes
import multiprocessing
import os
import signal
import sys

__all__ = ["die_with_parent"]

PR_SET_PDEATHSIG = 1
"""Number of the request to `prctl`, of Linux."""


def die_with_parent() -> None:
    """From now on Linux kills this process when the one that started it dies, even by SIGKILL.

    It would otherwise hold its memory for seconds, and print a traceback about a broken pipe. Elsewhere nothing
    changes.
    """
    parent = multiprocessing.parent_process()
    if sys.platform != "linux" or parent is None:
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent.pid:  # it died before the request
        os._exit(1)
