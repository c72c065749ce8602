"""Runs the application until a signal, and then ends without losing a request."""

import asyncio
import logging
import signal
import socket
import struct
import sys
import time
from array import array
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from vitral.errors import UserError
from vitral.serve.observer import Lifecycle
from vitral.serve.service import Models

__all__ = ["bind", "ignore_new_connections", "run_server"]

IDLE_SECONDS = 75
"""Seconds that a connection may stay open without a whole head of a request; proxies close theirs after 60."""

LINGER_SECONDS = 1.0
"""Seconds after the last connection was made in which requests may still begin."""

SO_ATTACH_FILTER = 26
"""Of Linux; Python's socket module does not name it."""

DROP_SYN = struct.pack("=" + 4 * "HBBI", 0x30, 0, 0, 13, 0x45, 0, 1, 0x02, 0x06, 0, 0, 0, 0x06, 0, 0, 0xFFFFFFFF)
"""A BPF program: load the flags of the TCP header; if SYN is among them, keep nothing of the packet, else all."""


def bind(host: str, port: int) -> socket.socket:
    """A socket that is bound but refuses connections until the server runs.

    Raises:
        UserError: the address is unknown or taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        if sys.platform != "win32":  # there it would let two servers share a port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"cannot listen on {host} port {port} ({reason}): choose another --host or --port") from None
    return bound


def run_server(app: FastAPI, listener: socket.socket, *, drain: float) -> None:
    """Serves until SIGTERM or SIGINT, then refuses connections, answers what was accepted, and returns.

    SIGHUP loads the models anew, or ends the service if its terminal was closed.

    Args:
        app: from `create_app`.
        listener: from `bind`.
        drain: seconds that the requests may take after the signal; then they are cancelled.

    Raises:
        KeyboardInterrupt: the signal was SIGINT.
        UserError: a model cannot compute its first batch, after the service has ended.
    """
    allow_many_connections()
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # damaged bodies are answered, not logged
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=max(round(drain), 1),
    )
    # uvicorn raises the signal again when it has ended: without this the process would die of it
    signal.signal(signal.SIGTERM, lambda *_: None)
    lifecycle = app.state.lifecycle
    Server(config, lifecycle, app.state.models).run([listener])
    if lifecycle.failure is not None:
        if isinstance(lifecycle.failure, UserError):
            raise lifecycle.failure
        raise UserError(f"a model cannot compute its first batch: {_first_line(lifecycle.failure)}")


class Server(uvicorn.Server):
    """Ends in an order that loses no request, and reloads the models on SIGHUP."""

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle, models: Models) -> None:
        super().__init__(config)
        self.lifecycle, self.models = lifecycle, models
        self._has_terminal = sys.stderr.isatty()
        self._reloads: set[asyncio.Task] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens, to SIGHUP too."""
        await super().startup(sockets)
        if hasattr(signal, "SIGHUP"):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._hang_up)

    async def on_tick(self, counter: int) -> bool:
        """Whether to end."""
        return await super().on_tick(counter) or self.lifecycle.failure is not None

    def _hang_up(self) -> None:
        if self._has_terminal and not sys.stderr.isatty():  # it was closed, and nobody asks for a reload
            self.should_exit = True
            return
        task = asyncio.ensure_future(self.models.reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Takes no new connections, waits for requests that are on their way on open ones, then lets uvicorn end."""
        self.lifecycle.stopping = True
        for listener in sockets or ():
            ignore_new_connections(listener)
        await asyncio.sleep(LINGER_SECONDS)  # in which connections that clients have made are accepted
        for server in self.servers:
            server.close()
        for task in self._reloads:
            task.cancel()
        await super().shutdown(sockets)


class Connection(HttpToolsProtocol):
    """Closes connections whose client sends no request, or sends its head too slowly, and notes when heads arrive."""

    def connection_made(self, transport: Any) -> None:
        """Starts the clock."""
        super().connection_made(transport)
        self.loop.call_later(IDLE_SECONDS, self._close_if_idle, None)

    def on_headers_complete(self) -> None:
        """Notes when the head of a request arrived: a busy event loop handles it later."""
        self.scope.setdefault("state", {})["arrived"] = time.monotonic()
        super().on_headers_complete()

    def _close_if_idle(self, last: Any) -> None:
        """Closes the connection if its request is still the one of the last check, and answered."""
        if self.transport.is_closing():
            return
        if self.cycle is last and (self.cycle is None or self.cycle.response_complete):
            self.transport.close()
        else:
            self.loop.call_later(IDLE_SECONDS, self._close_if_idle, self.cycle)


def ignore_new_connections(listener: socket.socket) -> None:
    """Lets nobody connect any more, but keeps the connections that wait to be accepted.

    To close the listener would reset those, although their clients may have sent a request. Clients that come later try
    again until it is closed. Elsewhere than on Linux they connect until then.
    """
    if sys.platform == "linux":
        program = array("B", DROP_SYN)
        address, size = program.buffer_info()
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", size // 8, address))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def allow_many_connections() -> None:
    """Raises the number of open files that the process may have to the most that its user allows."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
