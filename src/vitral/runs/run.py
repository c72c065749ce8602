"""The folder of a training run: configuration, metrics, checkpoints, and the trained model."""

import fcntl
import itertools
import shlex
import shutil
from pathlib import Path
from typing import IO, Any

from vitral.config import save_config
from vitral.errors import UserError

__all__ = ["Run", "is_free", "lock_folder"]

RUNS = Path("runs")
"""Default parent of run folders."""

LOCK = ".lock"


class Run:
    """A folder that belongs to one training run. After training it is a model folder too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_path = path / "run.json"
        self.metrics_path = path / "metrics.jsonl"
        self.checkpoints_path = path / "checkpoints"
        self.curves_path = path / "curves.png"
        self.speed_path = path / "speed.json"
        self.started = False
        """Whether this process has started training, after all checks passed."""
        self._lock: IO[str] | None = None

    @classmethod
    def create(cls, out: Path | None, *, recipe: str) -> "Run":
        """Creates the folder `out`, or by default the next free `runs/RECIPE-N`.

        Raises:
            UserError: the folder exists and is not empty, or cannot be made.
        """
        path = _next_free(recipe) if out is None else out
        if not is_free(path, first="run.json"):
            hint = (
                f", or resume it: vitral train --resume {shlex.quote(str(path))}"
                if (path / "run.json").exists()
                else ""
            )
            raise UserError(f"{path} exists and is not empty: choose another --out{hint}")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{path} cannot be made ({error.strerror}): give another folder with --out") from None
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "Run":
        """Opens the folder of an existing run.

        Raises:
            UserError: the folder has no run.json.
        """
        run = cls(path)
        if not run.config_path.is_file():
            raise UserError(f"{path} is not the folder of a training run: it has no run.json")
        return run

    def save(self, config: Any) -> None:
        """Saves the configuration that the run resumes with, as JSON."""
        save_config(self.config_path, config)

    def lock(self) -> None:
        """Locks the folder against other processes and removes temporary files of interrupted writes.

        Raises:
            UserError: another process is training the run.
        """
        self._lock = lock_folder(self.path)
        _remove_temporary(self.checkpoints_path)

    def close(self) -> None:
        """Releases the lock."""
        if self._lock is not None:
            self._lock.close()

    def discard(self) -> None:
        """Removes the folder of a run that failed to start, unless there is more in it than the lock."""
        if all(entry.name == LOCK for entry in self.path.iterdir()):
            (self.path / LOCK).unlink(missing_ok=True)
            self.path.rmdir()
            if self.path.parent == RUNS and not any(RUNS.iterdir()):
                RUNS.rmdir()


def is_free(path: Path, *, first: str) -> bool:
    """Whether a folder is missing or empty, but for the lock and temporary files of `first`, the file written first."""
    if not path.is_dir():
        return not path.exists()
    return all(entry.name == LOCK or entry.match(f".{first}.*.tmp") for entry in path.iterdir())


def lock_folder(folder: Path) -> IO[str]:
    """Locks a folder against other processes and removes temporary files of interrupted writes.

    The lock ends when the file is closed or the process exits. Child processes do not inherit it, so data workers that
    outlive a killed trainer do not hold it.

    Raises:
        UserError: another process holds the lock.
    """
    lock = (folder / LOCK).open("w")
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        lock.close()
        raise UserError(f"{folder} is being trained by another process") from None
    _remove_temporary(folder)
    return lock


def _remove_temporary(folder: Path) -> None:
    for path in folder.glob(".*.tmp"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _next_free(recipe: str) -> Path:
    """Creates the first folder `runs/RECIPE-N` that does not exist yet."""
    for number in itertools.count(1):
        path = RUNS / f"{recipe}-{number}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return path
    raise AssertionError("unreachable")
