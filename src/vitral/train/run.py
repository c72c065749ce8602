"""A run's folder: its configuration, record, checkpoints, and the model it made."""

import fcntl
import itertools
import shlex
import shutil
from pathlib import Path
from typing import IO

from vitral.config import load_config, save_config
from vitral.errors import UserError
from vitral.train.config import RunConfig

__all__ = ["Run", "is_free", "locked"]

RUNS = Path("runs")
"""Where runs without a folder of their own are."""

LOCK = ".lock"


class Run:
    """A folder that one training run owns; the finished folder is a model folder too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_path = path / "run.json"
        self.metrics_path = path / "metrics.jsonl"
        self.checkpoints_path = path / "checkpoints"
        self.curves_path = path / "curves.png"
        self.speed_path = path / "speed.json"
        self.begun = False
        """Whether this process trains it: everything that could be refused was accepted."""
        self._lock: IO[str] | None = None

    @classmethod
    def create(cls, config: RunConfig) -> "Run":
        """Makes the folder `config.out`, or the next free `runs/RECIPE-N`.

        Raises:
            UserError: the folder exists and is not empty.
            OSError: the folder cannot be made.
        """
        path = _next_free(config.recipe) if config.out is None else config.out
        if not is_free(path, first="run.json"):
            hint = (
                f", or go on with it: vitral train --resume {shlex.quote(str(path))}"
                if (path / "run.json").exists()
                else ""
            )
            raise UserError(f"{path} exists and is not empty: choose another --out{hint}")
        path.mkdir(parents=True, exist_ok=True)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> tuple["Run", RunConfig]:
        """Opens an existing run's folder with its saved configuration.

        Raises:
            UserError: there is no run in it.
        """
        run = cls(path)
        if not run.config_path.is_file():
            raise UserError(f"{path} holds no run to resume: it has no run.json")
        return run, run.config()

    def config(self) -> RunConfig:
        """The configuration that the run is resumed with.

        Raises:
            UserError: it is damaged.
        """
        return load_config(RunConfig, self.config_path)

    def save(self, config: RunConfig) -> None:
        """Saves the configuration that the run is resumed with."""
        save_config(self.config_path, config)

    def lock(self) -> None:
        """Keeps other processes from training the same run, and removes what an interrupted write left.

        Raises:
            UserError: another process is training the run.
        """
        self._lock = locked(self.path)
        for left in self.checkpoints_path.glob(".*.tmp"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()

    def close(self) -> None:
        """Lets other processes train the run."""
        if self._lock is not None:
            self._lock.close()

    def discard(self) -> None:
        """Removes the folder of a run that could not begin; one that holds anything stays."""
        if all(entry.name == LOCK for entry in self.path.iterdir()):
            (self.path / LOCK).unlink(missing_ok=True)
            self.path.rmdir()
            if self.path.parent == RUNS and not any(RUNS.iterdir()):
                RUNS.rmdir()


def is_free(path: Path, *, first: str) -> bool:
    """Whether nothing is there but what is left where the file that comes first was never finished."""
    if not path.is_dir():
        return not path.exists()
    return all(entry.name == LOCK or entry.match(f".{first}.*.tmp") for entry in path.iterdir())


def locked(folder: Path) -> IO[str]:
    """Keeps other processes out of a folder until the file is closed; removes what an interrupted write left there.

    The lock ends with the process and is its own: reading processes that outlive a killed trainer do not hold it.

    Raises:
        UserError: another process has it.
    """
    lock = (folder / LOCK).open("w")
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        lock.close()
        raise UserError(f"{folder} is being trained by another process") from None
    for left in folder.glob(".*.tmp"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    return lock


def _next_free(recipe: str) -> Path:
    """Makes the first folder `runs/RECIPE-N` that is not there yet."""
    for number in itertools.count(1):
        path = RUNS / f"{recipe}-{number}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return path
    raise AssertionError("counting never ends")
