"""The processes that decode: one that has imported everything, and its forks, which are confined and do the work.

The first is started by `pool.py` as `python -c`, reads what to do from a socket, and ends with the process that
started it.
"""

import gc
import logging
import os
import pickle
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from io import BufferedReader, BytesIO
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import AvifImagePlugin, Image, UnidentifiedImageError

from vitral.data.images.errors import TooLarge, UnreadableImage
from vitral.data.images.memory import start_sharing
from vitral.data.isolation.messages import receive, receive_bytes, send
from vitral.data.isolation.sandbox import Limits, confine, limit_time
from vitral.data.notes import buffer_notes, take_notes
from vitral.errors import UserError, shortened

__all__ = ["CAUSES", "Read", "main"]

Read = Callable[[BufferedReader | BytesIO, str, bool], tuple[np.ndarray, np.ndarray | None]]
"""Reads a file: its pixels as the model takes them, and a picture of it if one is asked for."""

CAUSES: dict[str, type[Exception]] = {
    "TooLarge": TooLarge,
    "DecompressionBombError": Image.DecompressionBombError,
    "UnidentifiedImageError": UnidentifiedImageError,
}
"""Errors that lead to an `UnreadableImage`, and make a difference to who catches it."""

LAZY = ("pillow_heif", "pillow_jxl", "defusedxml.ElementTree", "PIL.ImageCms")
"""What decoders import when they need it."""


THREADS = 4
"""Most threads of a decoder. What those of 64 cores reserve, and what their stacks take, is more than the limits."""


def main(control: socket.socket) -> None:
    """Forks when asked to, and tells how forks ended, until the other process is gone."""
    work = pickle.loads(receive_bytes(control, receive(control)["size"]))
    _, limits, shared = work
    load_decoders()
    if limits.filtered:
        import_module("pyseccomp")
    start_sharing(shared)  # forks keep the file, which may be removed
    gc.freeze()  # what forks share
    while True:
        try:
            request = receive(control)
        except EOFError:
            os.killpg(0, signal.SIGKILL)  # forks that hang too
            return
        if "ended" in request:
            send(control, {"status": status_of(request["ended"])})
            continue
        _, (handle,), _, _ = socket.recv_fds(control, 1, 1)
        if pid := os.fork():
            os.close(handle)
            send(control, {"pid": pid})
        else:
            control.close()
            serve(socket.socket(fileno=handle), *work[:2])


def status_of(pid: int) -> int:
    """How a process ended; one of an earlier starter is no child, and was killed."""
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return -signal.SIGKILL


def load_decoders() -> None:
    """Imports what reading an image may import later, when no file can be opened any more."""
    Image.init()
    for name in LAZY:
        if find_spec(name.partition(".")[0]) is not None:
            import_module(name)
    rearrange(torch.zeros(1), "a -> a")  # einops imports what it knows of PyTorch
    limit_threads()
    if find_spec("tifffile") is None or find_spec("imagecodecs") is None:
        return
    import imagecodecs
    import tifffile

    imagecodecs.packints_decode  # noqa: B018 - is imported by being named
    for table, numbers in (
        (tifffile.TIFF.DECOMPRESSORS, tifffile.COMPRESSION),
        (tifffile.TIFF.UNPREDICTORS, tifffile.PREDICTOR),
    ):
        for number in numbers:
            with suppress(KeyError):  # this build has no such decoder
                table[number]


def limit_threads() -> None:
    """Gives each decoder at most `THREADS` threads, where it would start one for each core."""
    number = min(len(os.sched_getaffinity(0)), THREADS)
    AvifImagePlugin.DEFAULT_MAX_THREADS = number
    for name in ("pillow_heif.options", "pillow_jxl.JpegXLImagePlugin"):
        if find_spec(name.partition(".")[0]) is not None:
            setattr(import_module(name), "DECODE_THREADS", number)  # noqa: B010 - it need not be installed


def serve(connection: socket.socket, read: Read, limits: Limits) -> None:
    """Decodes what comes, confined, until the other process is gone; never returns."""
    code = 1
    try:
        silence()
        buffer_notes()
        logs = LogCollector()
        confine(limits)
        while True:
            request = receive(connection)
            answer, arrays = decode(connection, request, read, limits)
            send(connection, {**answer, "notes": take_notes(), "logs": logs.take()}, *arrays)
    except EOFError:
        code = 0
    finally:
        os._exit(code)


def silence() -> None:
    """What libraries write goes nowhere, and signals of the terminal do nothing."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nowhere, number)
    os.close(nowhere)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class LogCollector(logging.Handler):
    """Keeps what Vitral notes, for the process that prints it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        log = logging.getLogger("vitral")
        log.handlers, log.propagate = [self], False

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(shortened(record.getMessage()))

    def take(self) -> list[str]:
        """The lines since the last call."""
        lines, self.lines = self.lines, []
        return lines


def decode(
    connection: socket.socket, request: dict[str, Any], read: Read, limits: Limits
) -> tuple[dict[str, Any], list[memoryview]]:
    """The answer to one request, and the bytes behind it."""
    if request["size"] is None:
        _, (handle,), _, _ = socket.recv_fds(connection, 1, 1)
        file: BufferedReader | BytesIO = os.fdopen(handle, "rb")
    else:
        file = BytesIO(receive_bytes(connection, request["size"]))
    limit_time(limits.cpu_seconds)
    try:
        with file:
            pixels, picture = read(file, request["name"], request["drawn"])
    except UnreadableImage as error:
        return {"error": str(error), "cause": type(error.__cause__).__name__}, []
    except MemoryError:
        return {"stopped": f"memory limit of {limits.memory / 2**30:.3g} GiB"}, []
    except UserError as error:
        return {"wrong": str(error)}, []
    # a decoder may raise anything; what is no error of the file is one of this process, and is named as it is
    except Exception as error:
        return {"stopped": shortened(f"{type(error).__name__}: {error}")}, []
    arrays = [np.ascontiguousarray(array) for array in (pixels, picture) if array is not None]
    shapes = [{"dtype": array.dtype.name, "shape": array.shape} for array in arrays]
    return {"arrays": shapes}, [array.reshape(-1).view(np.uint8).data for array in arrays]
