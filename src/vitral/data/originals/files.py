"""Reading the small files that tell what the images are."""

from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["content", "holding", "lines", "matlab"]


def holding(root: Path, file: str, folder: str, *, hint: str = "") -> Path:
    """`root`, or the folder in it that the archive unpacks to, whichever has `file`.

    Raises:
        ValueError: neither has.
    """
    for place in (root, root / folder):
        if (place / file).exists():
            return place
    raise ValueError(f"{root} has no {file}, nor has {root / folder}: unpack the authors' archive there{hint}")


def content(file: Path) -> bytes:
    """The bytes of a file.

    Raises:
        ValueError: it is not there, or not to be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from None


def lines(file: Path) -> tuple[str, ...]:
    """Lines that are not empty; those that begin with # are comments."""
    text = content(file).decode(errors="replace")
    return tuple(line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))


def matlab(file: Path, key: str) -> Any:
    """The array `key` of a Matlab file.

    Raises:
        ValueError: the file cannot be read, or has no such array.
    """
    from scipy.io import loadmat

    try:
        with file.open("rb") as stream:
            return np.atleast_1d(loadmat(stream, squeeze_me=True)[key])
    # a damaged file makes the parser raise almost anything
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise ValueError(f"{file} cannot be read: {error.strerror}") from None
        raise ValueError(f"{file} is damaged, or no Matlab file with {key!r} ({type(error).__name__})") from None
