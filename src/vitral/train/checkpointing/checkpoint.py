"""Checkpoints: the complete state of a run, to resume it exactly, on any number of devices.

A checkpoint is a folder: one safetensors file for each process, written and read by `torch.distributed.checkpoint`, and
`state.json` with the metadata and the checksums of all files. Nothing is pickled.
"""

import json
import shutil
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

from vitral.config import read_json
from vitral.device import return_freed_memory
from vitral.distributed.world import SINGLE_PROCESS, World
from vitral.errors import UserError
from vitral.files import add_file_name, sync_folder, write_json
from vitral.train.duration import Duration

__all__ = ["CheckpointConfig", "Checkpoints", "Saved"]

METADATA = "state.json"
CHUNK = 1 << 24
"""Bytes that are read at once for a checksum."""


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When checkpoints are saved.

    Raises:
        UserError: a value is out of range.
    """

    every: str = "5min"
    """Time or training between two checkpoints, such as 5min, 20steps or 1epoch; one is always saved at the end."""
    keep: int = 2
    """Number of newest checkpoints to keep."""

    def __post_init__(self) -> None:
        Duration.parse(self.every)
        if self.keep < 1:
            raise UserError(f"checkpoint.keep must be at least 1, not {self.keep}")


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A complete, undamaged checkpoint on disk."""

    path: Path
    metadata: dict[str, Any]
    """Everything but the tensors, as JSON values."""
    sizes: dict[str, tuple[tuple[int, ...], torch.dtype]] = field(repr=False)
    """Shape and type of each full tensor."""

    def load_into(self, tensors: dict[str, Tensor]) -> None:
        """Loads tensors by name, in place, full ones or shards; called by all processes."""
        from vitral.distributed import shards

        shards.load_tensors(self.path, tensors)


class Checkpoints:
    """The checkpoints of a run, each in a folder named after its step. All processes call every method."""

    def __init__(self, folder: Path, *, keep: int, world: World = SINGLE_PROCESS) -> None:
        self.folder = folder
        self.keep = keep
        self.world = world
        # a separate group, as files are written in the background while training uses the default group
        self.group = cast(dist.ProcessGroup, dist.new_group(backend="gloo")) if world.size > 1 else None
        self.writing: _Background | None = None
        self.current: Path | None = None
        """The checkpoint that was loaded or saved last."""

    def save(self, tensors: dict[str, Tensor], metadata: dict[str, Any], *, step: int) -> None:
        """Copies the state and writes it in the background; `wait` returns when it is on disk.

        The checkpoint appears complete or not at all. Then the oldest ones beyond `keep` are removed, and those of
        later steps, which exist only if the run went back past a damaged checkpoint.

        Raises:
            OSError: the previous checkpoint could not be written; earlier ones are kept.
        """
        self.wait()
        final = self.folder / f"step_{step:09d}"
        if final == self.current:
            return
        temporary = self.folder / f".{final.name}.tmp"
        if self.world.is_main:
            self.folder.mkdir(exist_ok=True)
            shutil.rmtree(temporary, ignore_errors=True)
        from vitral.distributed import shards  # imported here because it takes a second, and few commands save

        write = shards.save_tensors(temporary, tensors, group=self.group)
        self.current = final
        self.writing = _Background(lambda: self._publish(write, temporary, final, metadata))

    def wait(self) -> None:
        """Waits until the last checkpoint is on disk.

        Raises:
            OSError: it could not be written, for example because the disk is full; earlier ones are kept.
        """
        if self.writing is not None:
            writing, self.writing = self.writing, None
            writing.result()

    def paths(self) -> list[Path]:
        """All checkpoints, oldest first."""
        return sorted(path for path in self.folder.glob("step_*") if path.is_dir())

    def newest(self) -> tuple[Saved, list[str]]:
        """The newest undamaged checkpoint, and a message for each damaged one that was skipped.

        Raises:
            UserError: there is none.
            OSError: the disk cannot be read.
        """
        saved, damaged = self.world.run_on_main(self._newest)
        self.current = saved.path
        return saved, damaged

    def _newest(self) -> tuple[Saved, list[str]]:
        damaged = []
        for path in reversed(self.paths()):
            try:
                return _open(path), damaged
            except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
                damaged.append(f"{path} is damaged ({_reason(error)}); using the checkpoint before it")
        raise UserError(f"no checkpoint in {self.folder} can be read: remove the folder to train from scratch")

    def _publish(self, write: Callable[[], None], temporary: Path, final: Path, metadata: dict[str, Any]) -> None:
        """Writes a checkpoint, adds checksums and renames it into place; runs in the background."""
        try:
            with add_file_name(final):
                write()
            pattern = f"shard-{self.world.rank + 1:05d}-*"
            sums: list[Any] = [{path.name: _checksum(path) for path in temporary.glob(pattern)}]
            if self.group is not None:
                gathered: list[Any] = [None] * self.world.size
                dist.all_gather_object(gathered, sums[0], group=self.group)
                sums = gathered
            if self.world.is_main:
                files = {name: checksum for part in sums for name, checksum in part.items()}
                checksum = _json_checksum(metadata, files)
                write_json(temporary / METADATA, {"metadata": metadata, "files": files, "checksum": checksum})
                shutil.rmtree(final, ignore_errors=True)
                temporary.rename(final)
                sync_folder(self.folder)
                self._prune(final)
            return_freed_memory()  # several copies of the state were made
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def _prune(self, newest: Path) -> None:
        paths = self.paths()
        end = paths.index(newest) + 1
        for path in (*paths[: max(end - self.keep, 0)], *paths[end:]):
            # renamed first, or an interrupted removal would leave what looks like a damaged checkpoint
            temporary = path.with_name(f".{path.name}.tmp")
            path.rename(temporary)
            shutil.rmtree(temporary, ignore_errors=True)


def _open(path: Path) -> Saved:
    """Opens a checkpoint after verifying its checksums."""
    found = read_json(path / METADATA)
    metadata = found["metadata"] if "metadata" in found else found["facts"]  # its name up to version 0.1
    files = found["files"]
    if found["checksum"] != _json_checksum(metadata, files):
        raise UserError(f"the checksum of {METADATA} is wrong")
    for name, checksum in files.items():
        if _checksum(path / name) != checksum:
            raise UserError(f"the checksum of {name} is wrong")
    from vitral.distributed import shards

    return Saved(path=path, metadata=metadata, sizes=shards.tensor_sizes(path))


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum


def _json_checksum(*values: Any) -> int:
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


def _reason(error: Exception) -> str:
    match error:
        case FileNotFoundError():
            return f"{Path(str(error.filename)).name} is missing"
        case KeyError():
            return f"{error} is missing"
        case _:
            return (str(error) or type(error).__name__).splitlines()[0]


class _Background:
    """Work in a daemon thread, which does not block the exit of the process."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), name="checkpoint", daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._error = error

    def result(self) -> None:
        """Waits for the end of the work, and raises its exception.

        The thread must have ended, too: it frees tensors last, and Python's exit meanwhile would abort the process.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
