"""trackio: a local database of runs; `trackio show --project vitral` opens it."""

import os
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import trackio

__all__ = ["Trackio"]

PROJECT = "vitral"


class Trackio:
    """One trackio run. Its name is saved in the run's folder, so that a resumed run continues it."""

    def __init__(self) -> None:
        self.run: Any = None

    def start(self, run: Path, config: dict[str, Any], *, step: int) -> None:
        """Starts or continues the trackio run, as TRACKIO_DIR and TRACKIO_PROJECT say."""
        name = run / "trackio_run"
        if not name.is_file():
            # run folders in different places may have the same name, and trackio identifies runs by name
            name.write_text(f"{run.name}-{os.urandom(3).hex()}")
        with redirect_stdout(StringIO()):  # standard output belongs to the command
            self.run = trackio.init(
                project=os.environ.get("TRACKIO_PROJECT", PROJECT),
                name=name.read_text(),
                resume="allow",
                config=config,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Logs metrics."""
        self.run.log(metrics, step=step)

    def finish(self) -> None:
        """Waits until all is written."""
        with redirect_stdout(StringIO()):
            trackio.finish()
