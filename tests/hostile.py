"""What a decoder does that an image has taken over, or that has a bug; the image is the name of one of these."""

import ctypes
import os
import socket
import time
from collections.abc import Callable
from io import BufferedReader, BytesIO
from pathlib import Path

import numpy as np

from vitral.data.images.preprocess import Preprocessing
from vitral.serve.decoding import read_arrays

__all__ = ["SHAPE", "read", "read_or_crash"]

SHAPE = (2, 3, 1)
OUTSIDE = Path(__file__)


def crash() -> None:
    ctypes.string_at(0)


def allocate() -> None:
    bytearray(10 * 2**30)


def loop() -> None:
    while True:
        pass


def sleep() -> None:
    time.sleep(10**6)


def open_file() -> None:
    OUTSIDE.read_bytes()


def write_file() -> None:
    Path("written").write_text("x")


def connect() -> None:
    socket.create_connection(("127.0.0.1", 9))


def fork() -> None:
    os.fork()


def execute() -> None:
    os.execv("/bin/true", ["true"])


def kill() -> None:
    os.kill(os.getppid(), 0)


def end() -> None:
    os._exit(3)


WAYS: dict[str, Callable[[], None]] = {
    way.__name__: way
    for way in (crash, allocate, loop, sleep, open_file, write_file, connect, fork, execute, kill, end)
}


def read(file: BufferedReader | BytesIO, name: str, drawn: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Does what the file says, or reads it as six pixels."""
    content = file.read()
    if (way := WAYS.get(content.decode())) is not None:
        way()
    if content == b"shape":
        return np.zeros((1, 1, 1), np.uint8), None
    pixels = np.frombuffer(content[:6].ljust(6), np.uint8).reshape(SHAPE)
    return pixels, np.zeros((4, 5, 3), np.uint8) if drawn else None


def read_or_crash(
    preprocessing: Preprocessing, file: BufferedReader | BytesIO, name: str, drawn: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads an image as Vitral does, unless its file begins with the name of a way."""
    content = file.read()
    if (way := WAYS.get(content.decode("latin-1"))) is not None:
        way()
    return read_arrays(preprocessing, BytesIO(content), name, drawn)
