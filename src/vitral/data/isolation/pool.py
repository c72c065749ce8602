"""Decodes images in confined processes: one that a file crashes or holds up costs that image, and is replaced."""

import math
import signal
import socket
import sys
import time
import weakref
from contextlib import ExitStack
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from queue import LifoQueue
from typing import Any

import numpy as np

from vitral.data.images.decode import decoding
from vitral.data.images.errors import NotRead, UnreadableImage
from vitral.data.images.memory import max_memory, shared
from vitral.data.isolation.messages import Late, receive, receive_bytes, send
from vitral.data.isolation.sandbox import Limits
from vitral.data.isolation.starter import Starter
from vitral.data.isolation.worker import CAUSES, Read
from vitral.data.notes import note_first, note_once
from vitral.errors import UserError, shortened

__all__ = ["Decoded", "DecoderPool"]

PATIENCE = 10
"""A decoder that sleeps takes no processor time: it is stopped after this many times its limit."""

MOST_PICTURE = 2**12
"""Longest side of a picture, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """An image that was read."""

    pixels: np.ndarray
    """As the model takes them, shape (h w c)."""
    picture: np.ndarray | None
    """As people see it, shape (h w) or (h w 3), if it was asked for."""


@dataclass(frozen=True)
class _Worker:
    """A confined process."""

    pid: int
    connection: socket.socket


class _Broken(Exception):
    """A process ended, is late, or sent nonsense; the message is the reason if it is known."""


class DecoderPool:
    """Confined processes, which decode one image each at a time; threads may share a pool."""

    def __init__(
        self, read: Read, *, shape: tuple[int, ...], dtype: type, processes: int, limits: Limits | None = None
    ) -> None:
        """Begins to start the processes; the first image waits for them.

        Args:
            read: a function that can be pickled, which runs in the processes.
            shape: of the pixels that it returns.
            dtype: of these.
            processes: how many images are decoded at a time.
            limits: of each process; None: the memory that decoding may take, and the default.

        Raises:
            UserError: the system is not Linux.
        """
        if sys.platform != "linux":
            raise UserError("--isolate needs the limits that Linux has: leave it out")
        self.limits, self.processes = limits or Limits(memory=max_memory()), processes
        self._shape, self._dtype = shape, np.dtype(dtype)
        self._idle: LifoQueue[_Worker | None] = LifoQueue()
        for _ in range(processes):
            self._idle.put(None)
        stack = ExitStack()
        memory = stack.enter_context(shared(processes))
        self.starter = Starter(read, self.limits, memory)
        stack.callback(self.starter.close)
        self.close = weakref.finalize(self, _close, self._idle, stack)
        """Ends the processes, once; so does the end of the program."""

    @property
    def protection(self) -> str:
        """What protects, in one sentence."""
        memory = f"{self.limits.memory / 2**30:.3g} GiB of memory"
        what = (
            f"images are decoded in {self.processes} processes, with {memory} and {self.limits.cpu_seconds} s for each"
        )
        if self.limits.filtered:
            return f"{what} image, and without access to files, the network and other processes (seccomp)"
        return (
            f"{what} image; to keep them from files and the network too, pip install 'vitral[isolate]' and libseccomp"
        )

    def start(self) -> None:
        """Starts the processes before the first image comes.

        Raises:
            UserError: one cannot be started.
        """
        for _ in range(self.processes):
            worker = self._idle.get()
            try:
                worker = worker or _Worker(*self.starter.fork())
            finally:
                self._idle.put(worker)

    def decode(self, stored: Path | bytes, *, name: str, drawn: bool = False, end: float = math.inf) -> Decoded:
        """Decodes an image.

        Args:
            stored: a path, or the bytes of a file.
            name: the image's name in errors.
            drawn: whether a picture is needed.
            end: reading of `time.monotonic()` at which the result is useless.

        Raises:
            UnreadableImage: it cannot be read, or its decoder was stopped.
            TimeoutError: it was not decoded before `end`.
            UserError: the model cannot read such images, or no process can be started.
        """
        request = {"name": shortened(name), "drawn": drawn}
        with ExitStack() as stack:
            file = _opened(stored, name, stack) if isinstance(stored, Path) else stored
            worker = self._idle.get()
            try:
                worker = worker or _Worker(*self.starter.fork())
                answer, parts = self._ask(worker, file, request, end)
            except _Broken as broken:
                assert worker is not None
                status, worker = self._end(worker), None
                if time.monotonic() >= end:
                    raise TimeoutError(f"{name} was not decoded in time") from None
                reason = str(broken) or _reason(status, self.limits)
                raise UnreadableImage(f"{name}: the decoder was stopped ({reason})") from None
            except BaseException:
                if worker is not None:  # the rest of an answer may wait in its connection
                    self._end(worker)
                    worker = None
                raise
            finally:
                self._idle.put(worker)
        return _result(answer, parts, name)

    def _end(self, worker: _Worker) -> int:
        """Ends a process, and returns how it ended before that."""
        worker.connection.close()
        return self.starter.end_of(worker.pid)

    def _ask(
        self, worker: _Worker, file: BufferedReader | bytes, request: dict[str, Any], end: float
    ) -> tuple[dict[str, Any], list[np.ndarray]]:
        """The answer of a process, which may have been taken over by an image: nothing in it is believed."""
        connection = worker.connection
        end = min(end, time.monotonic() + PATIENCE * self.limits.cpu_seconds)
        try:
            connection.settimeout(max(end - time.monotonic(), 1e-3))
            if isinstance(file, bytes):
                send(connection, {**request, "size": len(file)}, file)
            else:
                send(connection, {**request, "size": None})
                socket.send_fds(connection, [b"f"], [file.fileno()])
            answer = receive(connection, end=end)
            return answer, self._arrays(answer, connection, end)
        except (Late, TimeoutError):
            raise _Broken(_time_limit(self.limits)) from None
        except (EOFError, OSError):
            raise _Broken from None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise _Broken("its answer was damaged") from None

    def _arrays(self, answer: dict[str, Any], connection: socket.socket, end: float) -> list[np.ndarray]:
        """The pixels and the picture, if there is one."""
        arrays = []
        for number, item in enumerate(answer.get("arrays", ())[:2]):
            shape, dtype = tuple(item["shape"]), np.dtype(np.uint8)
            if not number:
                dtype = self._dtype
                if shape != self._shape:
                    raise ValueError("the pixels have another shape than the model takes")
            elif len(shape) < 2 or shape[2:] not in ((), (3,)) or not all(map(_is_side, shape)):
                raise ValueError("the picture is no picture")
            content = receive_bytes(connection, math.prod(shape) * dtype.itemsize, end=end)
            arrays.append(np.frombuffer(content, dtype).reshape(shape))
        return arrays


def _is_side(side: object) -> bool:
    return isinstance(side, int) and 0 < side <= MOST_PICTURE


def _opened(path: Path, name: str, stack: ExitStack) -> BufferedReader:
    with decoding(name):
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise NotRead("it is not a regular file")  # opening a pipe could block for ever
        return stack.enter_context(path.open("rb"))


def _result(answer: dict[str, Any], arrays: list[np.ndarray], name: str) -> Decoded:
    """What a process answered.

    Raises:
        UnreadableImage: the image cannot be read.
        UserError: the model cannot read such images.
    """
    try:
        notes, logs = [(fact, first) for fact, first in answer.get("notes", ())], list(answer.get("logs", ()))
    except (TypeError, ValueError):
        raise UnreadableImage(f"{name}: the decoder was stopped (its answer was damaged)") from None
    for fact, first in notes:
        note_first(shortened(str(fact)), str(first))
    for line in logs:
        note_once(str(line))
    if "wrong" in answer:
        raise UserError(str(answer["wrong"]))
    if "stopped" in answer:
        raise UnreadableImage(f"{name}: the decoder was stopped ({answer['stopped']})")
    if "error" in answer or not arrays:
        cause = CAUSES.get(str(answer.get("cause")))
        raise UnreadableImage(str(answer.get("error"))) from (cause() if cause else None)
    return Decoded(pixels=arrays[0], picture=arrays[1] if len(arrays) > 1 else None)


def _reason(status: int, limits: Limits) -> str:
    """Why a process ended, in words."""
    if status == -signal.SIGXCPU:
        return _time_limit(limits)
    if status >= 0:
        return f"it ended with status {status}"
    names = {number.value: number.name for number in signal.Signals}
    return f"it crashed with {names.get(-status, f'signal {-status}')}"


def _time_limit(limits: Limits) -> str:
    return f"time limit of {limits.cpu_seconds} s"


def _close(idle: "LifoQueue[_Worker | None]", stack: ExitStack) -> None:
    while not idle.empty():
        if (worker := idle.get_nowait()) is not None:
            worker.connection.close()
    stack.close()
