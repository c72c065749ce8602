"""Writing files so that a reader sees the old content or the new, never half of it."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["naming", "write_atomically", "write_json"]


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Operating-system errors inside name `path`; those of an open file name nothing by themselves."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes `path` through a temporary file beside it: written, flushed to disk, then renamed.

    Args:
        path: the file to replace; its folder must exist.
        write: called with the open temporary file.

    Raises:
        OSError: the disk is full or not writable; `path` keeps its old content and no temporary file stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with naming(path):
        try:
            with temporary.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))
