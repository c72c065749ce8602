"""Checkpoints: everything a run needs to go on exactly where it stood."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vitral.files import write_atomically
from vitral.train.duration import Duration

__all__ = ["CheckpointConfig", "Checkpoints"]


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When a run saves itself.

    Raises:
        ValueError: a value is out of range.
    """

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
        """Writes a checkpoint atomically, then removes the oldest beyond `keep`, and any of a later step.

        Only a run that went back past a damaged checkpoint has later ones.

        Raises:
            OSError: the disk is full; the checkpoints before it stay.
        """
        self.folder.mkdir(exist_ok=True)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        newest = self.folder / f"step_{step:09d}.pt"
        write_atomically(newest, lambda file: file.write(buffer.getbuffer()))
        paths = self.paths()
        end = paths.index(newest) + 1
        for path in (*paths[: max(end - self.keep, 0)], *paths[end:]):
            path.unlink()

    def paths(self) -> list[Path]:
        """The checkpoints there are, oldest first."""
        return sorted(self.folder.glob("step_*.pt"))

    def newest(self) -> tuple[dict[str, Any], list[str]]:
        """The newest state that can be read, and a sentence for each damaged checkpoint that was passed over.

        Raises:
            ValueError: there is none.
            OSError: the disk cannot be read.
        """
        damaged = []
        for path in reversed(self.paths()):
            content = path.read_bytes()
            try:
                return _parse(content), damaged
            # a damaged file can make the parsers of zip and pickle raise almost anything
            except Exception as error:
                reason = (str(error) or type(error).__name__).splitlines()[0]
                damaged.append(f"{path} is damaged ({reason}); going back to the checkpoint before it")
        raise ValueError(f"no checkpoint in {self.folder} can be read: remove the folder to train from the start")


def _parse(content: bytes) -> dict[str, Any]:
    """The state in one checkpoint; its checksums come first, since PyTorch itself does not look at them."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        damaged = archive.testzip()
    if damaged:
        raise ValueError(f"the checksum of {damaged} is wrong")
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise TypeError(f"it holds no run but a {type(state).__name__}")
    return state
