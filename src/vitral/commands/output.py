"""What the commands print: figures on standard output, everything else on standard error."""

import argparse
import json
import math
import os
import re
import sys
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from vitral.errors import UserError
from vitral.files import as_csv, as_markdown, printable, write_atomically, write_json

__all__ = [
    "check_out",
    "note",
    "parsed_by_tyro",
    "picture_path",
    "plain",
    "print_json",
    "printable",
    "progress_bar",
    "show_table",
    "split_off",
    "write_table",
]

T = TypeVar("T")


def parsed_by_tyro(kind: type[T], *, default: T, arguments: list[str], program: str) -> T:
    """`default` with the changes that the arguments name, flag by flag; `--help` prints and exits.

    Raises:
        UserError: a flag is unknown or its value wrong, in one sentence instead of tyro's box of several lines.
    """
    box = StringIO()
    try:
        with redirect_stderr(box):
            return tyro.cli(kind, default=default, args=arguments, prog=program)
    except SystemExit as stop:
        if not stop.code:
            raise
        lines = [line.strip("│| ") for line in box.getvalue().splitlines()[1:]]  # without the box's title
        text = " ".join("\n" if re.fullmatch(r"[─+╰╯-]*", line) else line for line in lines)
        parts = text.strip().split("\n")[0].strip()
        parts = re.sub(r"^Error parsing ((?=--)|[\w.]+: (?=--))", "", parts).removeprefix("Error parsing ").rstrip(".")
        parts = re.sub(r"^[A-Z]\w+: ", "", parts)  # the name of a class
        closest = re.search(r"Perhaps you meant:\s+(--\S+)", text)
        hint = f" (perhaps {closest[1]})" if closest else ""
        raise UserError(f"{parts}{hint}; {program} --help lists every key") from None


def split_off(arguments: list[str], option: str, program: str = "vitral train") -> tuple[str | None, list[str]]:
    """The value of an option, None without it, and the other arguments."""
    parser = argparse.ArgumentParser(prog=program, usage=argparse.SUPPRESS, add_help=False, allow_abbrev=False)
    parser.add_argument(option, dest="value")
    known, rest = parser.parse_known_args(arguments)
    return known.value, rest


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
        UserError: the folder does not exist or cannot be written to, the file's name does not end in .png, or it is
            that of a folder.
    """
    path = default if out is None else out
    if path.suffix.lower() != ".png":
        raise UserError(f"{path} is not named as a PNG file: end --out in .png")
    check_place(path)
    return path


def check_place(path: Path) -> None:
    """Refuses a file that cannot be written where it is to lie.

    Raises:
        UserError: its folder does not exist or cannot be written to, or it is itself a folder.
    """
    if not path.parent.is_dir():
        raise UserError(f"{path.parent} does not exist: make the folder, or give another --out")
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file with --out")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UserError(f"{path.parent} cannot be written to: name a file in another folder with --out")


WRITTEN = (".md", ".csv", ".json")
"""Endings of the files that a table can be written to."""

OWNED = ("config.json", "preprocessor_config.json", "run.json")
"""Files that a model's folder is known by."""


def check_out(path: Path | None, *, endings: tuple[str, ...] = WRITTEN) -> None:
    """Refuses, before anything is computed, a file whose ending says not what to write, or that cannot be written.

    Raises:
        UserError: as it says.
    """
    if path is None:
        return
    if path.suffix.lower() not in endings:
        raise UserError(f"{path} says not what to write: end --out in {', '.join(endings[:-1])} or {endings[-1]}")
    if path.name in OWNED:
        raise UserError(f"{path} would be taken for a model's own {path.name}: name another file with --out")
    check_place(path)


def write_table(path: Path, rows: list[list[str]], whole: dict[str, Any]) -> None:
    """A table, or everything as JSON, in the form that the file's name asks for."""
    if path.suffix.lower() == ".json":
        write_json(path, plain(whole))
        return
    content = {".csv": as_csv, ".md": as_markdown}[path.suffix.lower()](rows)
    write_atomically(path, lambda file: file.write(printable(content).encode()))


def show_table(title: str, rows: list[list[str]], *, names: int = 1) -> None:
    """A table on the screen, its first row the head; a first cell that repeats the one above is left empty.

    Args:
        title: above it.
        rows: of cells.
        names: columns to the left that are no numbers.
    """
    console = Console(highlight=False)
    console.print(printable(title), markup=False, soft_wrap=True)
    head, *body = rows
    drawn = Table()
    for number, name in enumerate(head):
        drawn.add_column(
            name, justify="left" if number < names else "right", no_wrap=0 < number < names, overflow="fold"
        )
    last = None
    for row in body:
        drawn.add_row(printable(row[0]) if row[0] != last else "", *row[1:])
        last = row[0]
    console.print(drawn)
