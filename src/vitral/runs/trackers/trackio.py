"""trackio: a local data base of runs, looked at with `trackio show --project vitral`."""

import os
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import trackio

__all__ = ["Trackio"]

PROJECT = "vitral"


class Trackio:
    """One run there; its name lies in the run's folder, so that a resumed run goes on with the same."""

    def __init__(self) -> None:
        self.run: Any = None

    def start(self, run: Path, config: dict[str, Any], *, step: int) -> None:
        """Begins, or goes on with, the run there; TRACKIO_DIR and TRACKIO_PROJECT count as always."""
        known = run / "trackio_run"
        if not known.is_file():
            # folders of one name may lie in many places, and trackio tells runs by name
            known.write_text(f"{run.name}-{os.urandom(3).hex()}")
        with redirect_stdout(StringIO()):  # standard output is for the figures of the command
            self.run = trackio.init(
                project=os.environ.get("TRACKIO_PROJECT", PROJECT),
                name=known.read_text(),
                resume="allow",
                config=config,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def write(self, step: int, figures: dict[str, float]) -> None:
        """Adds figures."""
        self.run.log(figures, step=step)

    def finish(self) -> None:
        """Waits until all is written."""
        with redirect_stdout(StringIO()):
            trackio.finish()
