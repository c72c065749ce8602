"""A run's folder: its configuration, record, checkpoints, and the model it made."""

import fcntl
import itertools
from pathlib import Path
from typing import IO, Self

from vitral.config import load_config, save_config
from vitral.train.config import RunConfig

__all__ = ["Run"]


class Run:
    """A folder that one training run owns; the finished folder is a model folder too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_path = path / "run.json"
        self.metrics_path = path / "metrics.jsonl"
        self.checkpoints_path = path / "checkpoints"
        self.curves_path = path / "curves.png"
        self._lock: IO[str] | None = None

    @classmethod
    def create(cls, config: RunConfig) -> Self:
        """Makes the folder `config.out`, or the next free `runs/RECIPE-N`, and saves the configuration there.

        Raises:
            ValueError: the folder exists and is not empty.
            OSError: the folder cannot be made.
        """
        if config.out is None:
            free = (Path("runs") / f"{config.recipe}-{n}" for n in itertools.count(1))
            path = next(path for path in free if not path.exists())
        else:
            path = config.out
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            hint = f", or go on with it: vitral train --resume {path}" if (path / "run.json").exists() else ""
            raise ValueError(f"{path} exists and is not empty: choose another --out{hint}")
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path)
        run.lock()
        save_config(run.config_path, config)
        return run

    @classmethod
    def open(cls, path: Path) -> tuple[Self, RunConfig]:
        """Opens an existing run's folder with its saved configuration.

        Raises:
            ValueError: there is no run in it, or another process is training it.
        """
        run = cls(path)
        if not run.config_path.is_file():
            raise ValueError(f"{path} holds no run to resume: it has no run.json")
        config = load_config(RunConfig, run.config_path)
        run.lock()
        for left in (*path.glob(".*.tmp"), *run.checkpoints_path.glob(".*.tmp")):
            left.unlink()
        return run, config

    def lock(self) -> None:
        """Keeps other processes from training the same run until this one ends."""
        self._lock = (self.path / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{self.path} is being trained by another process") from None
