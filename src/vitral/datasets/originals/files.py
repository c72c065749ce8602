"""Reading the small files that tell what the images are."""

from pathlib import Path

from vitral.errors import UserError

__all__ = ["content", "holding", "lines"]


def holding(root: Path, file: str, folder: str, *, hint: str = "") -> Path:
    """`root`, or the folder in it that the archive unpacks to, whichever has `file`.

    Raises:
        UserError: neither has.
    """
    for place in (root, root / folder):
        if (place / file).exists():
            return place
    raise UserError(f"{root} has no {file}, nor has {root / folder}: unpack the authors' archive there{hint}")


def content(file: Path) -> bytes:
    """The bytes of a file.

    Raises:
        UserError: it is not there, or not to be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None


def lines(file: Path) -> tuple[str, ...]:
    """Lines that are not empty; those that begin with # are comments."""
    text = content(file).decode(errors="replace")
    return tuple(line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))
