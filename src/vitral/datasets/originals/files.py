"""Finds and reads the small files that describe a data set."""

from pathlib import Path

from vitral.errors import UserError

__all__ = ["find_folder", "read_file", "read_lines"]


def find_folder(root: Path, file: str, folder: str, *, hint: str = "") -> Path:
    """`root`, or the folder inside it that the archive unpacks to, whichever contains `file`.

    Raises:
        UserError: neither does.
    """
    for candidate in (root, root / folder):
        if (candidate / file).exists():
            return candidate
    raise UserError(f"{root} has no {file}, nor has {root / folder}: unpack the authors' archive there{hint}")


def read_file(file: Path) -> bytes:
    """The bytes of a file.

    Raises:
        UserError: it is missing or cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None


def read_lines(file: Path) -> tuple[str, ...]:
    """The lines of a file, without empty ones and comments (#)."""
    text = read_file(file).decode(errors="replace")
    return tuple(line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))
