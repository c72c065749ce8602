"""Which .pt2 files may be opened: each is a program, and reading one may run code that it contains."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from vitral.errors import UserError
from vitral.files import cache_folder

__all__ = ["TRUST", "check_trusted", "remember"]

TRUST = "VITRAL_TRUST_PT2"
"""Environment variable: 1 opens the files of others too."""


def remember(content: bytes) -> None:
    """Remembers the digest of a file that is being written, for this user on this machine."""
    with suppress(OSError):  # without it, reading the file asks for `TRUST`
        _mark(content).parent.mkdir(parents=True, exist_ok=True)
        _mark(content).touch()


def check_trusted(content: bytes, path: Path) -> None:
    """Raises UserError for a file that this user did not write on this machine, unless all are trusted."""
    if not _mark(content).exists() and os.environ.get(TRUST) != "1":
        raise UserError(
            f"{path} may run code of its own when it is opened, and you did not export it here: set {TRUST}=1 if you "
            "trust who made it, or use an .onnx file"
        )


def _mark(content: bytes) -> Path:
    return cache_folder() / "exported" / hashlib.sha256(content).hexdigest()
