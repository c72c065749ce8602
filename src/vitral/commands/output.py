"""What the commands print: figures on standard output, everything else on standard error."""

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["note", "picture_path", "plain", "print_json", "printable", "progress_bar"]


def note(text: str) -> None:
    """One line for people, on standard error."""
    print(printable(text), file=sys.stderr)


def print_json(value: dict[str, Any]) -> None:
    """Prints one JSON object; numbers that are not finite become null."""
    print(json.dumps(plain(value), allow_nan=False))


def plain(value: Any) -> Any:
    """`value` with null for every number that JSON does not know, and text that can be encoded."""
    match value:
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case float() if not math.isfinite(value):
            return None
        case str():
            return printable(value)
        case _:
            return value


def printable(text: str) -> str:
    """`text` with a sign of replacement for bytes of a file's name that are no text."""
    return os.fsencode(text).decode(errors="replace")


def progress_bar(*, shown: bool = True) -> Progress:
    """A bar on standard error where that is a terminal; it is gone once done, and leaves standard output alone."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        redirect_stdout=False,
        disable=not (shown and console.is_terminal),
    )


def picture_path(out: Path | None, *, default: Path) -> Path:
    """Where a picture goes, checked before anything is computed.

    Raises:
        ValueError: the folder does not exist, or the file's name does not end in .png.
    """
    path = default if out is None else out
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path} is not named as a PNG file: end --out in .png")
    if not path.parent.is_dir():
        raise ValueError(f"{path.parent} does not exist: make the folder, or give another --out")
    return path
