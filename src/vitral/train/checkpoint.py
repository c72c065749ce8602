"""Checkpoints: everything a run needs to go on exactly where it stood."""

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vitral.files import write_atomically
from vitral.train.duration import Duration
from torch.distributed.checkpoint.stateful import Stateful

__all__ = ["CheckpointConfig", "Checkpoints"]


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When a run saves itself."""

    every: str = "5min"
    """Time or training between two checkpoints, such as 5min, 20steps or 1epoch; one is always saved at the end."""
    keep: int = 2
    """How many of the newest checkpoints stay."""

    def __post_init__(self) -> None:
        Duration.parse(self.every)
        if self.keep < 1:
            raise ValueError(f"checkpoint.keep must be at least 1, not {self.keep}")


class Checkpoints:
    """The folder of a run's checkpoints, one file each, named after the steps taken."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        self.folder = folder
        self.keep = keep

    def save(self, state: dict[str, Any], *, step: int) -> None:
        """Writes a checkpoint atomically, then removes the oldest beyond `keep`.

        Raises:
            OSError: the disk is full; the checkpoints before it stay.
        """
        self.folder.mkdir(exist_ok=True)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomically(self.folder / f"step_{step:09d}.pt", lambda file: file.write(buffer.getbuffer()))
        for old in self.paths()[: -self.keep]:
            old.unlink()

    def paths(self) -> list[Path]:
        """The checkpoints there are, oldest first."""
        return sorted(self.folder.glob("step_*.pt"))

    def restore(self, session: Stateful) -> list[str]:
        """Puts a session where the newest readable checkpoint stood; without one it stays as it is.

        Returns:
            A sentence for each damaged checkpoint that was passed over.

        Raises:
            ValueError: the checkpoint belongs to another model or optimiser.
        """
        damaged = []
        for path in reversed(self.paths()):
            try:
                state = torch.load(path, map_location="cpu", weights_only=True)
            except (RuntimeError, EOFError, pickle.UnpicklingError, KeyError) as error:
                reason = (str(error) or type(error).__name__).splitlines()[0]
                damaged.append(f"{path} is damaged ({reason}); going back to the checkpoint before it")
            else:
                session.load_state_dict(state)
                break
        return damaged
