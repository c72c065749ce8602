"""Bytes that decoding images may take, shared by all threads and processes that read at the same time."""

import fcntl
import math
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import NamedTemporaryFile
from weakref import ref

from PIL import Image

from vitral.data.images.errors import TooLarge
from vitral.errors import UserError

__all__ = [
    "DEFAULT",
    "Reservation",
    "held_by",
    "hold",
    "limit_memory",
    "max_memory",
    "parse_size",
    "reserve",
    "shared",
    "start_sharing",
]

VARIABLE = "VITRAL_MEMORY"
"""Environment variable with the number of bytes."""

DEFAULT = "2GiB"
"""A HEIC photograph of 108 megapixels is counted as 1.5 GiB."""

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
SIZE = re.compile(r"(\d+(?:\.\d+)?) *([KMGT]?)(?:I?B)?", re.IGNORECASE)

BLOCK = 2**26
"""Bytes of the blocks in which Pillow stores images."""

PARTS = 64
"""Parts that processes divide the memory into. Each is the lock of a byte, which the system frees if they die."""

HELD = "vitral_memory"
"""Attribute of an image with its reservation."""

_changed = threading.Condition()
"""Of the memory that the threads of this process take."""
_taken = 0
_shared: int | None = None
"""File whose bytes processes lock: the first by who takes parts, the others are the parts; None: no other process."""
_thread = threading.local()


class Reservation:
    """Bytes that are taken until `release`, or until nothing refers to it: images that are read do."""

    def __init__(self, size: int, parts: list[int]) -> None:
        self._size, self._parts = size, parts

    def release(self) -> None:
        """Gives the bytes back, once."""
        global _taken
        with _changed:
            size, self._size = self._size, 0
            parts, self._parts = self._parts, []
            _taken -= size
            _changed.notify_all()
        if _shared is not None:
            for part in parts:
                fcntl.lockf(_shared, fcntl.LOCK_UN, 1, part)

    def __del__(self) -> None:
        self.release()


def parse_size(text: str, *, name: str) -> int:
    """Bytes of a size such as `500MB` or `2GiB`; a thousand of a unit is 1024 of the one below.

    Args:
        text: the size.
        name: of the setting, in errors.

    Raises:
        UserError: it is no size.
    """
    match = SIZE.fullmatch(text.strip())
    size = int(float(match[1]) * UNITS[match[2].upper()]) if match else 0
    if size < 1:
        raise UserError(f"{name} must be a size such as 500MB or 2GiB, not {text!r}")
    return size


def max_memory() -> int:
    """Bytes that decoding may take: `DEFAULT`, or the environment variable VITRAL_MEMORY.

    Raises:
        UserError: the variable is no size.
    """
    return parse_size(os.environ.get(VARIABLE) or DEFAULT, name=VARIABLE)


def limit_memory(size: str | None, *, name: str) -> None:
    """Sets the limit of this process and of those that it starts; None keeps it, and checks it once.

    Args:
        size: such as `500MB`.
        name: of the setting, in errors.

    Raises:
        UserError: it is no size, or the environment variable is none.
    """
    if size is not None:
        parse_size(size, name=name)
        os.environ[VARIABLE] = size
    max_memory()


def reserve(size: int) -> Reservation:
    """Takes memory for an image, as soon as enough is free.

    A thread has one reservation: the one of the image it read before is released, so that no thread waits for itself.

    Args:
        size: in bytes.

    Raises:
        TooLarge: the size is above the limit.
    """
    global _taken
    if (last := getattr(_thread, "last", None)) is not None and (held := last()) is not None:
        held.release()
    limit = max_memory()
    if size > limit:
        allow = f"--data.memory, or {VARIABLE} in the environment, allows more (predict and serve: --memory)"
        raise TooLarge(f"decoding it takes {_format(size)} of memory, more than the {_format(limit)} allowed: {allow}")
    with _changed:
        _changed.wait_for(lambda: not _taken or _taken + size <= limit)
        _taken += size
    taken = Reservation(size, [])
    if _shared is not None:
        taken = Reservation(size, _take_parts(_shared, math.ceil(size * PARTS / limit)))
    _thread.last = ref(taken)
    return taken


@contextmanager
def shared(processes: int) -> Iterator[str | None]:
    """A file for `start_sharing`, with which several processes keep to one limit; None: a single one does alone."""
    if processes < 2:
        yield None
        return
    with NamedTemporaryFile(prefix="vitral-memory-") as file:
        yield file.name


def start_sharing(file: str | None) -> None:
    """Called in each process that reads, in one thread, with what `shared` gives."""
    global _changed, _taken, _shared
    _changed, _taken = threading.Condition(), 0
    _shared = None if file is None else os.open(file, os.O_RDWR)
    _thread.__dict__.clear()


def hold(image: Image.Image, reservation: Reservation) -> Image.Image:
    """Keeps memory reserved as long as an image exists."""
    vars(image)[HELD] = reservation
    return image


def held_by(image: Image.Image) -> Reservation | None:
    """What `hold` keeps for an image."""
    return vars(image).get(HELD)


def _take_parts(file: int, count: int) -> list[int]:
    """Locks `count` of the parts. A process holds none while it waits for the first byte, so all get their turn."""
    fcntl.lockf(file, fcntl.LOCK_EX, 1, 0)
    try:
        start, parts = os.getpid(), []
        order = [1 + (start + number) % PARTS for number in range(PARTS)]
        for wait in (False, True):
            for part in order:
                if len(parts) < count and part not in parts and _lock(file, part, wait=wait):
                    parts.append(part)
        return parts
    finally:
        fcntl.lockf(file, fcntl.LOCK_UN, 1, 0)


def _lock(file: int, part: int, *, wait: bool) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, part)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _format(size: int) -> str:
    """The size in the largest unit that leaves at least ten of it, so that two unequal sizes seldom look equal."""
    power = next((power for power in (30, 20, 10) if size >= 10 * 2**power), 0)
    return f"{size / 2**power:,.0f} { ({30: 'GiB', 20: 'MiB', 10: 'KiB'}.get(power, 'bytes')) }"


# The system gets blocks of more than 32 MiB back at once; glibc keeps smaller ones, for each thread.
Image.core.set_block_size(BLOCK)
