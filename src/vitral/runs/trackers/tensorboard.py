"""TensorBoard event files, written synchronously: its `SummaryWriter` writes in a thread that hides errors."""

import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.summary.writer.record_writer import RecordWriter

from vitral.files import add_file_name

__all__ = ["TensorBoard"]


class TensorBoard:
    """One event file; a resumed run adds another."""

    def start(self, run: Path, config: dict[str, Any], *, step: int) -> None:
        """Opens a file to continue after `step` steps; TensorBoard drops the records of later steps."""
        folder = run / "tensorboard"
        self.path = folder / f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}"
        with add_file_name(self.path):
            folder.mkdir(exist_ok=True)
            self.file = self.path.open("wb")
        self.records = RecordWriter(self.file)
        try:
            self._add(Event(wall_time=time.time(), file_version="brain.Event:2"))
            self._add(Event(wall_time=time.time(), step=step + 1, session_log=SessionLog(status=SessionLog.START)))
        except OSError:
            with suppress(OSError):
                self.file.close()
            raise

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Logs metrics after `step` steps."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._add(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def finish(self) -> None:
        """Closes the file."""
        with add_file_name(self.path):
            self.file.close()

    def _add(self, event: Event) -> None:
        with add_file_name(self.path):
            self.records.write(event.SerializeToString())
            self.file.flush()
