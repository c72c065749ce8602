"""Writing files so that a reader sees the old content or the new, never half of it; and tables as text."""

import csv
import io
import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

__all__ = [
    "any_script",
    "as_csv",
    "as_markdown",
    "naming",
    "printable",
    "sync_folder",
    "write_atomically",
    "write_json",
]


FALLBACK_FONTS = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "IPAGothic",
    "Droid Sans Fallback",
    "Hiragino Sans",
    "PingFang SC",
    "Microsoft YaHei",
    "Malgun Gothic",
    "Arial Unicode MS",
    "Noto Sans",
    "Unifont",
)
"""Families with letters that Matplotlib's own font lacks, Chinese, Japanese and Korean above all."""


@contextmanager
def any_script() -> Iterator[None]:
    """Pictures drawn inside take missing letters from the fonts installed; what none has becomes a box, quietly."""
    # imported here because Matplotlib takes a second, and most files need it not
    from matplotlib import font_manager, rc_context

    installed = set(font_manager.get_font_names())
    families = ["DejaVu Sans", *(family for family in FALLBACK_FONTS if family in installed)]
    with rc_context({"font.sans-serif": families}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from", UserWarning)
        yield


def printable(text: str) -> str:
    """`text` with a sign of replacement for bytes of a file's name that are no text."""
    return "".join("\N{REPLACEMENT CHARACTER}" if "\ud800" <= letter <= "\udfff" else letter for letter in text)


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
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Makes the names in a folder safe on disk."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A new folder to fill, which comes to `path` at the end: whole, or, where something went wrong, not at all.

    Raises:
        OSError: the folder above cannot be made or written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as around:
        inside = Path(around) / path.name
        inside.mkdir()
        yield inside
        inside.rename(path)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def as_csv(rows: Sequence[Sequence[Any]]) -> str:
    """A table as CSV; the first row is its head."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, its first column to the left and the others to the right; the first row is its head."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    lines.insert(1, "|---|" + "--:|" * (len(rows[0]) - 1))
    return "\n".join(lines) + "\n"
