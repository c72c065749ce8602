"""The service's log: lines for people or JSON, written by a thread that nothing waits for."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Full, Queue
from threading import Thread
from typing import Any, Literal, Protocol, get_args, runtime_checkable

from vitral.files import printable

__all__ = ["LOG_FORMATS", "LogFormat", "TextStream", "logging_to"]

LogFormat = Literal["text", "json"]
"""Lines for people, or one JSON object a line."""

LOG_FORMATS: tuple[LogFormat, ...] = get_args(LogFormat)

LOGGERS = ("vitral.access", "vitral.serve", "uvicorn")

MAX_WAITING = 10_000
"""Lines that wait to be written; more are dropped."""

CLOSE_SECONDS = 1.0
"""What a stream that blocks may delay the end by."""


@runtime_checkable
class TextStream(Protocol):
    """What lines are written to, such as `sys.stderr`."""

    def write(self, text: str, /) -> Any:
        """Writes text."""

    def flush(self) -> Any:
        """Hands it on."""


@contextmanager
def logging_to(stream: TextStream, form: LogFormat) -> Iterator[None]:
    """Writes the service's log to a stream until the context ends.

    A stream that blocks or fails, as on a full disk, loses lines and stops nothing. A later line says how many.
    """
    handler = _Writer(stream)
    handler.setFormatter(_JSONFormatter() if form == "json" else logging.Formatter("%(asctime)s %(message)s"))
    loggers = [logging.getLogger(name) for name in LOGGERS]
    for log in loggers:
        log.addHandler(handler)
        log.propagate = False
        log.setLevel(logging.WARNING if log.name == "uvicorn" else logging.INFO)
    try:
        yield
    finally:
        for log in loggers:
            log.removeHandler(handler)
            log.propagate = True
            log.setLevel(logging.NOTSET)
        handler.close()


class _Writer(logging.Handler):
    """Formats records at once, and writes them in a thread."""

    def __init__(self, stream: TextStream) -> None:
        super().__init__()
        self._stream, self._lost = stream, 0
        self._queue: Queue[str | None] = Queue(MAX_WAITING)
        self._thread = Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._queue.put_nowait(printable(self.format(record)))
        except Full:
            self._lost += 1

    def close(self) -> None:
        """Writes what waits, unless the stream blocks."""
        try:
            self._queue.put(None, timeout=CLOSE_SECONDS)
            self._thread.join(CLOSE_SECONDS)
        except Full:
            pass
        super().close()

    def _write(self) -> None:
        while (line := self._queue.get()) is not None:
            lost = self._lost
            if lost:
                line = f"{self.format(_warning(f'{lost} lines of the log were lost'))}\n{line}"
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # the disk is full, the reader of the pipe is gone, or the stream is closed
                self._lost += 1
            else:
                self._lost -= lost


def _warning(message: str) -> logging.LogRecord:
    return logging.LogRecord("vitral.serve", logging.WARNING, "", 0, message, None, None)


class _JSONFormatter(logging.Formatter):
    """One JSON object a line, with the values of a request or a message."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {"time": f"{moment}.{int(record.msecs):03d}Z", "level": record.levelname.lower()}
        line |= getattr(record, "values", None) or {"message": record.getMessage()}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)
