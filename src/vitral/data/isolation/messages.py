"""Messages between processes: JSON with bytes behind it, because who reads pickles runs what a decoder writes."""

import json
import socket
import struct
import time
from typing import Any

__all__ = ["Late", "receive", "receive_bytes", "send"]

LENGTH = struct.Struct(">I")
MOST_JSON = 2**16
"""Bytes of a message without those behind it."""


class Late(Exception):
    """The other process did not answer in time."""


def send(connection: socket.socket, message: dict[str, Any], *parts: Any) -> None:
    """Sends a message and the bytes behind it."""
    text = json.dumps(message).encode()
    connection.sendall(LENGTH.pack(len(text)) + text)
    for part in parts:
        connection.sendall(part)


def receive(connection: socket.socket, *, end: float | None = None) -> dict[str, Any]:
    """The next message.

    Args:
        connection: to the other process.
        end: reading of `time.monotonic()` to wait for at most; None: as long as it takes.

    Raises:
        EOFError: the other process ended.
        Late: it did not answer in time.
        ValueError: it sent something else.
    """
    (size,) = LENGTH.unpack(receive_bytes(connection, LENGTH.size, end=end))
    if size > MOST_JSON:
        raise ValueError("the message is too long")
    try:
        message = json.loads(bytes(receive_bytes(connection, size, end=end)))
    except RecursionError:
        raise ValueError("the message is nested too deeply") from None
    if not isinstance(message, dict):
        raise ValueError("the message is no object")
    return message


def receive_bytes(connection: socket.socket, size: int, *, end: float | None = None) -> bytearray:
    """The bytes behind a message; raises as `receive` does."""
    content = bytearray(size)
    view, at = memoryview(content), 0
    while at < size:
        if end is not None:
            connection.settimeout(max(end - time.monotonic(), 1e-3))
        try:
            count = connection.recv_into(view[at:])
        except TimeoutError:
            raise Late from None
        except ConnectionError:
            count = 0
        if not count:
            raise EOFError
        at += count
    return content
