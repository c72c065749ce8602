"""Copies of shards that cannot be read by ranges: the output of commands, and files of servers without ranges."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from vitral.data.notes import note_once
from vitral.data.sources.remote import RemoteFile, filesystem, has_ranges, retried, stat_files
from vitral.errors import UserError
from vitral.files import cache_folder, locked, write_atomically

__all__ = ["is_pipe", "located"]

PIPE = "pipe:"
"""How WebDataset writes the command that prints a shard."""

ALLOW = "VITRAL_ALLOW_COMMANDS"
"""Environment variable that allows commands: a run's configuration may come from somebody else."""

CHUNK = 1 << 20
"""Bytes that are copied at once."""

RESERVE = 1_000_000_000
"""Bytes of the disk that stay free."""


def is_pipe(name: str) -> bool:
    """Whether a shard is the output of a command."""
    return name.startswith(PIPE)


def located(names: Sequence[str]) -> list[Path | RemoteFile]:
    """Where to read shards: behind their URLs, or in copies in the cache if those cannot be read by ranges.

    Args:
        names: URLs, or commands after `pipe:`.

    Raises:
        UserError: a URL cannot be read, a command fails or is not allowed, or the disk has no room for the copies.
    """
    if is_pipe(names[0]):
        return [*_copies_of_commands(names)]
    files = stat_files(names)
    return [*files] if has_ranges(files[0]) else [*_copies_of_files(files)]


def _copies_of_files(files: Sequence[RemoteFile]) -> list[Path]:
    copies = [(_copy_of(file.url, f"{file.url} {file.size} {file.version}"), file) for file in files]
    with locked(_folder() / ".lock"):
        missing = [(copy, file) for copy, file in copies if not copy.is_file()]
        size = sum(file.size for _, file in missing)
        if missing:
            note_once(
                f"the server of {files[0]} cannot send parts of a file: "
                f"{len(missing)} shards of {size / 1e6:,.0f} MB are copied to {_folder()}"
            )
        _check_room(size)
        for copy, file in missing:
            write_atomically(copy, lambda stream, file=file: _download(file, stream))
    return [copy for copy, _ in copies]


def _copies_of_commands(names: Sequence[str]) -> list[Path]:
    if os.environ.get(ALLOW) != "1":
        raise UserError(
            f"{names[0]!r} would run a command: give its URL, such as https://, s3:// or gs://, or set {ALLOW}=1"
        )
    copies = [(_copy_of(name, name), name.removeprefix(PIPE).strip()) for name in names]
    with locked(_folder() / ".lock"):
        missing = [(copy, command) for copy, command in copies if not copy.is_file()]
        if missing:
            note_once(
                f"the output of {len(missing)} commands is copied to {_folder()}, as it cannot be read at random: "
                "remove the copies if the output changes"
            )
        for number, (copy, command) in enumerate(missing):
            write_atomically(copy, lambda stream, command=command: _run(command, stream))
            size = copy.stat().st_size
            if number == 0:
                note_once(f"{command!r} printed {size / 1e6:,.1f} MB, the first of {len(missing)} copies")
            _check_room(size)
    return [copy for copy, _ in copies]


def _folder() -> Path:
    folder = cache_folder() / "spool"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _copy_of(name: str, identity: str) -> Path:
    """A name from the last word of a URL or command, so that messages about the copy can be understood."""
    last = re.split(r"[/\s]", name)[-1]
    digest = hashlib.sha256(os.fsencode(identity)).hexdigest()[:16]
    return _folder() / f"{digest}-{last[-100:]}"


def _check_room(size: int) -> None:
    folder = _folder()
    free = shutil.disk_usage(folder).free
    if size > free - RESERVE:
        raise UserError(
            f"{folder} has {free / 1e9:.1f} GB free, too little for copies of {size / 1e9:.1f} GB: "
            "set VITRAL_CACHE to a folder with more room"
        )


def _download(file: RemoteFile, stream: BinaryIO) -> None:
    def copy() -> None:
        stream.seek(0)
        stream.truncate()
        with filesystem(file.url).open(file.url, "rb", block_size=0) as source:
            shutil.copyfileobj(source, stream, CHUNK)
        if stream.tell() != file.size:
            raise OSError(f"{stream.tell()} bytes came of {file.size}")

    retried(file.url, copy)


def _run(command: str, stream: BinaryIO) -> None:
    """Writes what a shell prints for a command."""
    done = subprocess.run(["/bin/sh", "-c", command], stdout=stream, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        reason = words[-1] if words else f"exit status {done.returncode}"
        raise UserError(f"the command {command!r} failed: {reason}")
    if not stream.seek(0, os.SEEK_END):
        raise UserError(f"the command {command!r} printed nothing: it must print a shard")
