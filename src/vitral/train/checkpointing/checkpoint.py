"""Checkpoints: everything a run needs to go on exactly where it stood, on as many devices as there are then.

A checkpoint is a folder of safetensors files, one a process, that `torch.distributed.checkpoint` writes and reads, and
one JSON file with the rest and the files' checksums. Nothing in it is unpickled.
"""

import json
import shutil
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

from vitral.distributed.world import SINGLE_PROCESS, World
from vitral.errors import UserError
from vitral.files import naming, sync_folder, write_json
from vitral.train.duration import Duration

__all__ = ["CheckpointConfig", "Checkpoints", "Saved"]

FACTS = "state.json"
CHUNK = 1 << 24


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When a run saves itself.

    Raises:
        UserError: a value is out of range.
    """

    every: str = "5min"
    """Time or training between two checkpoints, such as 5min, 20steps or 1epoch; one is always saved at the end."""
    keep: int = 2
    """How many of the newest checkpoints stay."""

    def __post_init__(self) -> None:
        Duration.parse(self.every)
        if self.keep < 1:
            raise UserError(f"checkpoint.keep must be at least 1, not {self.keep}")


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A checkpoint on disk, whole and undamaged."""

    path: Path
    facts: dict[str, Any]
    """What is not a tensor."""
    sizes: dict[str, tuple[tuple[int, ...], torch.dtype]] = field(repr=False)
    """Shape and type of each tensor."""

    def read_into(self, tensors: dict[str, Tensor]) -> None:
        """Fills tensors of these names, whole ones or shards, in place; called by all processes."""
        from vitral.distributed import shards

        shards.read(self.path, tensors)


class Checkpoints:
    """The checkpoints of a run, each in a folder named after the steps taken. All processes call every method."""

    def __init__(self, folder: Path, *, keep: int, world: World = SINGLE_PROCESS) -> None:
        self.folder = folder
        self.keep = keep
        self.world = world
        # a group of their own: while files are written, training talks in the other one
        self.group = cast(dist.ProcessGroup, dist.new_group(backend="gloo")) if world.size > 1 else None
        self.writing: Future[None] | None = None
        self.at: Path | None = None
        """The checkpoint that holds the state this process began with, or saved last."""

    def save(self, tensors: dict[str, Tensor], facts: dict[str, Any], *, step: int) -> None:
        """Copies the state, and writes it while training goes on; `wait` tells when it is safe.

        What it writes appears whole or not at all. Then the oldest beyond `keep` go, and any of a later step: only a
        run that went back past a damaged checkpoint has those.

        Raises:
            OSError: the checkpoint before this one could not be written; those before it stay.
        """
        self.wait()
        final = self.folder / f"step_{step:09d}"
        if final == self.at:
            return
        temporary = self.folder / f".{final.name}.tmp"
        if self.world.is_main:
            self.folder.mkdir(exist_ok=True)
            shutil.rmtree(temporary, ignore_errors=True)
        from vitral.distributed import shards  # here, as it takes a second, and other commands never save

        copied = shards.write(temporary, tensors, group=self.group)
        self.at = final
        self.writing = _in_background(lambda: self._publish(copied, temporary, final, facts))

    def wait(self) -> None:
        """Waits until the last save is on disk.

        Raises:
            OSError: it could not be written, as the disk is full; the checkpoints before it stay.
        """
        if self.writing is not None:
            writing, self.writing = self.writing, None
            writing.result()

    def paths(self) -> list[Path]:
        """The checkpoints there are, oldest first."""
        return sorted(path for path in self.folder.glob("step_*") if path.is_dir())

    def newest(self) -> tuple[Saved, list[str]]:
        """The newest checkpoint that is undamaged, and a sentence for each damaged one that was passed over.

        Raises:
            UserError: there is none.
            OSError: the disk cannot be read.
        """
        saved, damaged = self.world.run_on_main(self._newest)
        self.at = saved.path
        return saved, damaged

    def _newest(self) -> tuple[Saved, list[str]]:
        damaged = []
        for path in reversed(self.paths()):
            try:
                return _opened(path), damaged
            except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
                damaged.append(f"{path} is damaged ({_reason(error)}); going back to the checkpoint before it")
        raise UserError(f"no checkpoint in {self.folder} can be read: remove the folder to train from the start")

    def _publish(self, copied: Callable[[], None], temporary: Path, final: Path, facts: dict[str, Any]) -> None:
        """Gives a written checkpoint its checksums and then its name; runs beside the training."""
        try:
            with naming(final):
                copied()
            own = f"shard-{self.world.rank + 1:05d}-*"
            sums: list[Any] = [{path.name: _checksum(path) for path in temporary.glob(own)}]
            if self.group is not None:
                gathered: list[Any] = [None] * self.world.size
                dist.all_gather_object(gathered, sums[0], group=self.group)
                sums = gathered
            if self.world.is_main:
                files = {name: checksum for part in sums for name, checksum in part.items()}
                write_json(temporary / FACTS, {"facts": facts, "files": files, "checksum": _of_json(facts, files)})
                shutil.rmtree(final, ignore_errors=True)
                temporary.rename(final)
                sync_folder(self.folder)
                self._prune(final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def _prune(self, newest: Path) -> None:
        paths = self.paths()
        end = paths.index(newest) + 1
        for path in (*paths[: max(end - self.keep, 0)], *paths[end:]):
            # out of sight first, or an interrupted removal would leave what looks like a damaged checkpoint
            gone = path.with_name(f".{path.name}.tmp")
            path.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)


def _opened(path: Path) -> Saved:
    """A checkpoint whose files are what they were when written."""
    found = json.loads((path / FACTS).read_text())
    facts, files = found["facts"], found["files"]
    if found["checksum"] != _of_json(facts, files):
        raise UserError(f"the checksum of {FACTS} is wrong")
    for name, checksum in files.items():
        if _checksum(path / name) != checksum:
            raise UserError(f"the checksum of {name} is wrong")
    from vitral.distributed import shards

    return Saved(path=path, facts=facts, sizes=shards.sizes(path))


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum


def _of_json(*values: Any) -> int:
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


def _reason(error: Exception) -> str:
    match error:
        case FileNotFoundError():
            return f"{Path(str(error.filename)).name} is missing"
        case KeyError():
            return f"{error} is missing"
        case _:
            return (str(error) or type(error).__name__).splitlines()[0]


def _in_background(work: Callable[[], None]) -> Future[None]:
    """Does something in a thread of its own, which holds up no exit."""
    future: Future[None] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="checkpoint", daemon=True).start()
    return future
