"""What happens around every request: access log, metrics, security headers, and the end of connections at the end."""

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vitral.serve.metrics import Metrics
from vitral.serve.problems import problem_response

__all__ = ["Lifecycle", "Observer"]

LOG = logging.getLogger("vitral.access")

PROBES = ("/healthz", "/readyz", "/metrics")
"""Paths that machines ask every few seconds; the log has only what is unusual."""

HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
"""Sent with every response: the page runs its own scripts only, and asks no other host."""


@dataclass
class Lifecycle:
    """How far the service's life has come."""

    stopping: bool = False
    """Whether it is about to stop."""
    failure: BaseException | None = None
    """Why its models will never be ready."""


class Observer:
    """Wraps an ASGI application."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, lifecycle: Lifecycle) -> None:
        self.app, self.metrics, self.lifecycle = app, metrics, lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request, or the application's start and end."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, began = time.perf_counter(), 500, False

        async def send_with_headers(message: Message) -> None:
            nonlocal status, began
            if message["type"] == "http.response.start":
                status, began = message["status"], True
                # a client that keeps its connection would send its next request to a service that has stopped
                closing = [(b"connection", b"close")] if self.lifecycle.stopping else []
                message = {**message, "headers": [*message.get("headers", []), *HEADERS, *closing]}
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except asyncio.CancelledError:
            if began or not self.lifecycle.stopping:
                raise
            # the time to drain is over: uvicorn would answer 500
            refusal = problem_response(503, "the service stopped before the answer was ready")
            await refusal(scope, receive, send_with_headers)
        finally:
            self._record(scope, status, time.perf_counter() - start)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route: Any = scope.get("route")
        path = getattr(route, "path", None) or "other"  # an unknown path must not make a new time series
        self.metrics.requests.labels(path, status).inc()
        self.metrics.seconds.labels(path).observe(seconds)
        if scope["path"] not in PROBES or status not in (200, 503):
            client = (scope.get("client") or ("-",))[0]
            values = {
                "client": client,
                "method": scope["method"],
                "path": quote(scope["path"]),  # so that no path writes a line of its own
                "status": status,
                "milliseconds": round(1000 * seconds, 1),
            }
            if LOG.getEffectiveLevel() <= logging.INFO:
                # not by LOG.info: reading a .pt2 file turns that off in the whole process
                form, extra = "%s %s %s %d %.1f ms", {"values": values}
                LOG.handle(LOG.makeRecord(LOG.name, logging.INFO, "", 0, form, (*values.values(),), None, extra=extra))
