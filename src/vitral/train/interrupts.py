"""Ctrl-C and SIGTERM ask a run to save and stop; the step under way is finished first."""

import signal
from types import FrameType
from typing import Self

__all__ = ["Interrupted", "Interrupts"]


class Interrupted(Exception):
    """The run was asked to stop and has saved itself."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


class Interrupts:
    """While active, notes the first SIGINT or SIGTERM; a second one acts as it always does."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._before = {}

    def __enter__(self) -> Self:
        for signum in (signal.SIGINT, signal.SIGTERM):
            self._before[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _note(self, signum: int, _: FrameType | None) -> None:
        self.signum = signum
        self.__exit__()
