"""Output of the commands: results on standard output, everything else on standard error."""

import json
import math
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from vitral.files import as_csv, as_markdown, encodable, printable, write_atomically, write_json

__all__ = [
    "csv_text",
    "finite",
    "note",
    "print_fitting",
    "print_json",
    "print_table",
    "printable",
    "progress_bar",
    "write_table",
]


UNLIMITED = 10_000
"""Columns of a terminal in which every table fits."""


def note(text: str) -> None:
    """Prints one line on standard error."""
    print(printable(text), file=sys.stderr)


def csv_text(text: str) -> str:
    """Text for a cell of CSV on standard output: as it is for a program, printable for a terminal."""
    return (printable if sys.stdout.isatty() else encodable)(text)


def print_json(value: dict[str, Any]) -> None:
    """Prints one JSON object; numbers that are not finite become null."""
    print(json.dumps(finite(value), allow_nan=False))


def finite(value: Any) -> Any:
    """`value` with None for numbers that are not finite, and text that can be encoded, as JSON needs them."""
    match value:
        case dict():
            return {key: finite(item) for key, item in value.items()}
        case list() | tuple():
            return [finite(item) for item in value]
        case float() if not math.isfinite(value):
            return None
        case str():
            return encodable(value)
        case _:
            return value


def progress_bar(*, enabled: bool = True) -> Progress:
    """A progress bar on standard error if that is a terminal; it disappears when done."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        redirect_stdout=False,
        disable=not (enabled and console.is_terminal),
    )


def write_table(path: Path, rows: list[list[str]], results: dict[str, Any]) -> None:
    """Writes `rows` as Markdown or CSV, or `results` as JSON, by the file's ending."""
    if path.suffix.lower() == ".json":
        write_json(path, finite(results))
        return
    content = {".csv": as_csv, ".md": as_markdown}[path.suffix.lower()](rows)
    write_atomically(path, lambda file: file.write(printable(content).encode()))


def print_fitting(console: Console, table: Table) -> None:
    """Prints a table with a header; in a terminal too narrow for its words, each row as a list of names and values."""
    needed = Measurement.get(console, console.options.update_width(UNLIMITED), table).minimum
    if needed <= console.width:
        console.print(table)
        return
    if table.title:
        console.print(table.title, style="table.title", soft_wrap=True)
    for first, *cells in zip(*(column.cells for column in table.columns), strict=True):
        console.print(first, style="bold")
        for column, cell in zip(table.columns[1:], cells, strict=True):
            if cell not in ("", None):
                console.print(" ", f"{column.header}:", cell)


def print_table(title: str, rows: list[list[str]], *, text_columns: int = 1) -> None:
    """Prints a table; a first cell equal to the one above is left empty.

    Args:
        title: above it.
        rows: of cells; the first row is the header.
        text_columns: columns on the left that are not numbers.
    """
    console = Console(highlight=False)
    console.print(printable(title), markup=False, soft_wrap=True)
    head, *body = rows
    table = Table()
    for number, name in enumerate(head):
        table.add_column(
            escape(printable(name)),
            justify="left" if number < text_columns else "right",
            no_wrap=0 < number < text_columns,
            overflow="fold",
        )
    last = None
    for row in body:
        table.add_row(*(escape(printable(cell)) for cell in ("" if row[0] == last else row[0], *row[1:])))
        last = row[0]
    console.print(table)
