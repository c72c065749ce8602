"""The process that confined processes are forks of: it has imported everything, so that they start in milliseconds."""

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from vitral.data.isolation.messages import receive, send
from vitral.errors import UserError

__all__ = ["Starter"]

START = """
import json, socket, sys
sys.path[:] = json.loads(sys.argv[2])
from vitral.data.isolation.worker import main
main(socket.socket(fileno=int(sys.argv[1])))
"""
PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "HOME", "LANG", "LC_", "TMPDIR", "PYTHON", "VITRAL_MEMORY", "VITRAL_MAX_PIXELS")
"""Variables of the environment that the processes get; others may be secrets."""
SINGLE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""A process with several threads must not fork."""


class Starter:
    """Forks processes that decode, and tells how they ended; it is started again if it ends itself."""

    def __init__(self, *work: Any) -> None:
        """
        Args:
            work: the function that reads, the limits, and the file by which memory is shared; they can be pickled.
        """
        self._work = pickle.dumps(work)
        self._lock = threading.Lock()
        self._launch()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def fork(self) -> tuple[int, socket.socket]:
        """The number of a new process, and the connection to it.

        Raises:
            UserError: it cannot be started.
        """
        with self._lock:
            for last in (False, True):
                ours, theirs = socket.socketpair()
                try:
                    with theirs:
                        send(self._control, {})
                        socket.send_fds(self._control, [b"f"], [theirs.fileno()])
                    return receive(self._control)["pid"], ours
                except (EOFError, OSError):
                    ours.close()
                    if last:
                        raise UserError(
                            "no process that decodes images can be started: is there too little memory?"
                        ) from None
                    self._end()
                    self._launch()
        raise AssertionError

    def end_of(self, pid: int) -> int:
        """Ends a process, and returns how it ended before that: an exit status, or a negative signal."""
        with self._lock, suppress(EOFError, OSError):
            # while this is not answered, no other process can have the number
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            send(self._control, {"ended": pid})
            return receive(self._control)["status"]
        return -signal.SIGKILL

    def close(self) -> None:
        """Ends the process and its forks."""
        with self._lock:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)  # a fork that hangs does not see that its connection is closed
            self._end()

    def _launch(self) -> None:
        self._control, theirs = socket.socketpair()
        paths = json.dumps([str(Path(path).absolute()) for path in sys.path])
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", START, str(theirs.fileno()), paths],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a terminal's signals are for the process that answers
                env={name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)} | SINGLE_THREAD,
            )
        with suppress(OSError):  # it has ended already, which the first fork finds out
            send(self._control, {"size": len(self._work)}, self._work)

    def _end(self) -> None:
        self._control.close()
        self._process.kill()
        self._process.wait()
