"""Ctrl-C, SIGTERM and SIGUSR1 ask a run to save and stop; the step under way is finished first.

SLURM can send SIGUSR1 some time before it takes a machine back.
"""

import os
import signal
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Any

__all__ = ["Interrupted", "Interrupts"]

ECHO_SECONDS = 1.0
"""Within this time a further signal says the same again: `timeout` sends each one twice, for one."""


class Interrupted(Exception):
    """The run was asked to stop and has saved itself, or has even finished."""

    def __init__(self, signum: int, *, finished: bool = False) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum
        self.finished = finished


class Interrupts:
    """While active, notes the first of these signals; one that comes later again acts as it always does."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._noted = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        # a cluster's launcher may train in another thread, where signals cannot be caught
        caught = threading.current_thread() is threading.main_thread()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1) if caught else ():
            self._before[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _note(self, signum: int, _: FrameType | None) -> None:
        if self.signum is None:
            self.signum, self._noted = signum, time.monotonic()
            with suppress(OSError):
                os.write(2, b"saving...\n")  # not print: the signal may have come in the middle of another one
        elif time.monotonic() - self._noted > ECHO_SECONDS:
            self.__exit__()
            signal.raise_signal(signum)
