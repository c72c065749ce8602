"""Signal handling: after Ctrl-C and its like, a run finishes its step, saves and stops.

SLURM can send SIGUSR1 some time before it ends a job; a terminal that is closed sends SIGHUP.
"""

import os
import signal
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Any

__all__ = ["STOPPING", "Interrupted", "Interrupts"]

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGQUIT)
"""Signals after which a run saves and stops."""

ECHO_SECONDS = 1.0
"""A signal within this time after the first one is ignored, because `timeout`, for one, sends each signal twice."""


ERASE_LINE = b"\r\x1b[2K"


class Interrupted(Exception):
    """A signal stopped the run after saving it, or arrived while it finished."""

    def __init__(self, signum: int, *, finished: bool = False) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum
        self.finished = finished


class Interrupts:
    """A context that records the first signal; a second one, after a second, acts as usual."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._received = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        # a launcher such as Ray trains in another thread, where signals cannot be handled
        can_handle = threading.current_thread() is threading.main_thread()
        for signum in STOPPING if can_handle else ():
            # what is ignored stays so: `nohup` ignores SIGHUP, a script's background job Ctrl-C
            if signal.getsignal(signum) != signal.SIG_IGN:
                self._before[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _handle(self, signum: int, _: FrameType | None) -> None:
        if self.signum is None:
            self.signum, self._received = signum, time.monotonic()
            with suppress(OSError):
                # not print: the signal may have come in the middle of another one. On a terminal the line of the
                # progress bar is erased, as the bar is drawn again below
                os.write(2, ERASE_LINE * os.isatty(2) + b"saving...\n")
        elif time.monotonic() - self._received > ECHO_SECONDS:
            self.__exit__()
            signal.raise_signal(signum)
