"""Writes files atomically, and formats tables as text."""

import csv
import fcntl
import io
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

__all__ = [
    "add_file_name",
    "as_csv",
    "as_markdown",
    "atomic_folder",
    "cache_folder",
    "encodable",
    "font_fallback",
    "locked",
    "markdown_text",
    "printable",
    "sync_folder",
    "with_formula",
    "without_formula",
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
"""Font families with glyphs that Matplotlib's default font lacks, above all Chinese, Japanese and Korean."""


NO_TEXT = re.compile(r"[\ud800-\udfff]")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters other than line ends and tabs, controls of the direction of writing, and no text."""
FORMULA = re.compile(r"'*[=+\-@\t\r].", re.DOTALL)
"""The start of a cell that a spreadsheet computes, or of one that got an apostrophe for it; a sign alone is neither."""
MARKDOWN = re.compile(
    r"[&<>\[\]`*~|\\$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|:(?=//)|(?<=www)\.|(?<=\S)@|(?<=mailto):|(?<=xmpp):",
    re.IGNORECASE,
)
"""What is Markdown, HTML, mathematics or a link of GitHub's Markdown within a line."""
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


@contextmanager
def font_fallback() -> Iterator[None]:
    """Lets Matplotlib take missing glyphs from installed fonts; glyphs that no font has become boxes, silently."""
    # imported here because Matplotlib takes a second to import
    from matplotlib import font_manager, rc_context

    installed = set(font_manager.get_font_names())
    families = ["DejaVu Sans", *(family for family in FALLBACK_FONTS if family in installed)]
    with rc_context({"font.sans-serif": families}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from", UserWarning)
        yield


def encodable(text: str) -> str:
    """`text` with replacement characters for bytes of file names that are not valid text."""
    return NO_TEXT.sub("\N{REPLACEMENT CHARACTER}", text)


def printable(text: str) -> str:
    """`text` for a terminal, of names and messages that others chose.

    Replacement characters stand for what is not text, for control characters, with which a terminal could be made to
    run escape sequences, and for those that reverse the direction of writing. Line ends and tabs stay.
    """
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def without_formula(cell: str) -> str:
    """A cell of CSV that no spreadsheet computes: an apostrophe precedes what would start a formula.

    `with_formula` undoes it. Numbers stay as they are.
    """
    return f"'{cell}" if FORMULA.match(cell) and not NUMBER.fullmatch(cell) else cell


def with_formula(cell: str) -> str:
    """The text of a cell that `without_formula` wrote."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


@contextmanager
def add_file_name(path: Path) -> Iterator[None]:
    """Adds `path` to OSErrors raised inside; errors of an open file do not name it."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def cache_folder() -> Path:
    """The folder of what can be computed again: VITRAL_CACHE, or `vitral` in the user's cache folder."""
    if folder := os.environ.get("VITRAL_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vitral"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits until no other process of this machine is inside. On a file system without locks it does not wait.

    Args:
        path: a file for the lock; its folder must exist. It stays.
    """
    with path.open("ab") as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes `path` atomically: a temporary file beside it is written, flushed to disk and renamed.

    Args:
        path: the file to replace; its folder must exist.
        write: called with the open temporary file.

    Raises:
        OSError: the disk is full or not writable; `path` keeps its old content, and the temporary file is removed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with add_file_name(path):
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
    """Flushes a folder's entries to disk."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that is renamed to `path` at the end, or removed if an exception was raised.

    Raises:
        OSError: the parent folder cannot be created or written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as parent:
        folder = Path(parent) / path.name
        folder.mkdir()
        yield folder
        folder.rename(path)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def as_csv(rows: Sequence[Sequence[Any]]) -> str:
    """A table as CSV; the first row is the header. No cell is a formula: see `without_formula`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    quoting = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for cells in rows:
        row = [without_formula(cell) if isinstance(cell, str) else cell for cell in cells]
        # before Python 3.13, a carriage return alone is not quoted, which splits the row
        (quoting if any("\r" in str(cell) for cell in row) else writer).writerow(row)
    return text.getvalue()


def markdown_text(text: str) -> str:
    """Text as Markdown that shows it as it is, on one line: without HTML, links and emphasis."""
    return MARKDOWN.sub(r"\\\g<0>", " ".join(printable(text).split()))


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; the first row is the header, the first column is left-aligned, the others right-aligned."""
    lines = ["| " + " | ".join(map(markdown_text, row)) + " |" for row in rows]
    lines.insert(1, "|---|" + "--:|" * (len(rows[0]) - 1))
    return "\n".join(lines) + "\n"
