"""Reads label files as columns of text: CSV, TSV, JSON Lines, JSON documents and plain lists."""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import StringIO
from itertools import chain, islice
from pathlib import Path
from typing import Any

from vitral.data.images.bands import BAND_SUFFIXES
from vitral.data.images.formats import IMAGE_SUFFIXES
from vitral.data.notes import note_once
from vitral.data.sources.label_json import Cells, json_columns, text_cells
from vitral.errors import UserError
from vitral.files import with_formula

__all__ = ["LABEL_SUFFIXES", "PATH_SUFFIXES", "LabelTable", "read_table"]

LABEL_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
"""Endings of label files that are found in a folder of images."""

PATH_SUFFIXES = IMAGE_SUFFIXES | BAND_SUFFIXES
"""Lower-case suffixes by which a cell is recognised as the path of an image."""

BLOCK = 10_000
"""Rows that are turned into columns at a time."""

FORMULA_CELL = re.compile(r"'[=+\-@\t\r]")
"""Part of a cell whose text `without_formula` changed."""

DELIMITERS = ",;\t|"

MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
"""Byte order marks, with the encoding of the text that follows."""

OTHER_KINDS = {
    b"PK\x03\x04": "is a spreadsheet or a zip file: export it as CSV",
    b"\xd0\xcf\x11\xe0": "is a spreadsheet: export it as CSV",
    b"PAR1": "is a Parquet file: read it with --data.source hub",
    b"ARROW1": "is an Arrow file: read it with --data.source hub",
    b"\x1f\x8b": "is compressed: unpack it",
}
"""First bytes of files that are no text, and what to do with them."""

DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)
"""Reads JSON with numbers as they are written."""

LIST_LINE = re.compile(
    rf"(?P<path>.*?\.(?:{'|'.join(suffix[1:] for suffix in sorted(PATH_SUFFIXES))}))(?:[\s,;|]+(?P<label>.*))?",
    re.IGNORECASE,
)
"""A line of a plain list: a path, which may have spaces, and a class."""


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """The rows of a label file."""

    file: Path
    columns: Cells
    """The cells of each column, in the order of the rows."""
    first_row: int
    """Number of the first row in messages: 2 below a header."""
    structured: dict[str, int] = field(default_factory=dict)
    """Columns with lists or objects, with the index of the first row that has one."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def column(self, name: str, *, flag: str) -> list[str]:
        """The cells of a column that `--data.FLAG` names.

        Raises:
            UserError: the file has no such column.
        """
        if name not in self.columns:
            known = ", ".join(self.columns)
            raise UserError(f"{self.file} has no column {name!r}, only {known}: change --data.{flag}")
        return self.columns[name]


def read_table(file: Path, *, several: bool = False) -> LabelTable:
    """Reads a label file; the columns of a file without a header are named 1, 2, 3.

    The format follows from the file's ending, and from its content if the ending is no usual one.

    Args:
        file: the file.
        several: whether COCO's and Label Studio's documents may give an image several labels.

    Raises:
        UserError: the file is empty, malformed, not text, or of a kind that names no classes.
    """
    text, suffix = _decode(file), file.suffix.lower()
    if not text.strip():
        raise UserError(f"{file} is empty: give one row for each image")
    if suffix in (".jsonl", ".ndjson"):
        columns, structured = _json_lines(file, text)
        return LabelTable(file=file, columns=columns, first_row=1, structured=structured)
    if suffix not in (".csv", ".tsv") and (suffix == ".json" or text.lstrip()[0] in "[{"):
        return _json_document(file, text, several=several)
    table = None if suffix in (".csv", ".tsv") else _list_table(file, text)
    return table or _from_rows(file, _csv_rows(file, text))


def _decode(file: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16; line ends inside quotes stay as they are."""
    content = file.read_bytes()
    other = next((advice for magic, advice in OTHER_KINDS.items() if content.startswith(magic)), None)
    if other is not None:
        raise UserError(f"{file} {other}")
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8")
    if encoding == "utf-8" and len(content) >= 8:  # UTF-16 without a mark: every other byte of a header is zero
        encoding = "utf-16-le" if not any(content[1:16:2]) else "utf-16-be" if not any(content[:16:2]) else encoding
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise UserError(f"{file} is damaged UTF-16 text: save it as UTF-8") from None
        row = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        raise UserError(f"{file} is not UTF-8 text: save it as UTF-8 (line {row} has the byte {byte:#x})") from None


def _from_rows(file: Path, rows: Iterator[list[str]]) -> LabelTable:
    """A table of rows, of which the first is the header unless it names an image."""
    header = next(rows, [])
    first_row = 1 if any(Path(cell.strip()).suffix.lower() in PATH_SUFFIXES for cell in header) else 2
    if first_row == 1:
        header, rows = [str(number) for number in range(1, len(header) + 1)], chain([header], rows)
    width = len(header)
    columns: list[list[str]] = [[] for _ in header]
    # in blocks, as Python's garbage collector would visit a million rows again and again
    while block := list(islice(rows, BLOCK)):
        wrong = next((number for number, row in enumerate(block) if len(row) != width), None)
        if wrong is not None:
            row = len(columns[0]) + wrong + first_row
            raise UserError(
                f"{file} has {len(block[wrong])} cells in row {row}, not {width} as its header: correct the row"
            )
        for index, column in enumerate(columns):
            column.extend([row[index] for row in block])
    if not columns[0]:
        raise UserError(f"{file} has a header but no rows: give one row for each image")
    named = [(name.strip(), cells) for name, cells in zip(header, columns, strict=True) if name.strip() or any(cells)]
    if len(dict(named)) < len(named):
        raise UserError(f"{file} has two columns with the same name: rename one")
    return LabelTable(file=file, columns=dict(named), first_row=first_row)


def _csv_rows(file: Path, text: str) -> Iterator[list[str]]:
    """Rows without empty lines; the delimiter is the commonest in the first line, outside quotes."""
    if marked := re.match(r"sep=(.)\r?\n", text):  # as Excel writes it
        text, delimiter = text[marked.end() :], marked[1]
    else:
        first = re.sub(r'"[^"]*"', "", text.lstrip().partition("\n")[0])
        delimiter = "\t" if file.suffix.lower() == ".tsv" and "\t" in first else max(DELIMITERS, key=first.count)
    rows = filter(None, csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True))
    if FORMULA_CELL.search(text):
        rows = ([with_formula(cell) for cell in row] for row in rows)
    try:
        yield from rows
    except csv.Error as error:
        raise UserError(f"{file} is no table: {error}") from None


def _list_table(file: Path, text: str) -> LabelTable | None:
    """A plain list of paths, with classes after them or as the names of their folders; None if it is a table."""
    lines = [line.rstrip("\r") for line in text.split("\n") if line.strip()]
    if "\t" in lines[0]:
        return None
    delimited = any(delimiter in lines[0] for delimiter in DELIMITERS)
    matches = [LIST_LINE.fullmatch(line) for line in lines]
    first_row = 1
    if matches[0] is None and len(matches) > 1 and all(matches[1:]) and not delimited:
        matches, first_row = matches[1:], 2  # without the header
    if matches[0] is not None and not delimited and None in matches:
        line = lines[matches.index(None)]
        raise UserError(f"{file} has the line {line[:60]!r} without an image: give a path and its class in each line")
    if all(matches):
        pairs = [(match["path"], match["label"] or "") for match in matches if match is not None]
    else:
        pairs = [tuple(line.rsplit(None, 1)) for line in lines]  # paths without an ending
        if delimited or any(len(pair) != 2 for pair in pairs):
            return None
    paths, labels = [path for path, _ in pairs], [label for _, label in pairs]
    if any(labels):
        return LabelTable(file=file, columns={"image": paths, "label": labels}, first_row=first_row)
    folders = [Path(path.replace("\\", "/")).parent.name for path in paths]
    if not all(folders):
        raise UserError(f"{file} lists images without classes: add the class to each line, after a tab")
    return LabelTable(file=file, columns={"image": paths, "class folder": folders}, first_row=first_row)


def _json_lines(file: Path, text: str) -> tuple[Cells, dict[str, int]]:
    """Columns of JSON objects, one per line; numbers as they are written."""
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row: Any = DECODER.decode(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file} line {number} is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise UserError(f"{file} line {number} is not a JSON object: give one object for each image")
        rows.append(row)
    return text_cells(file, rows)


def _json_document(file: Path, text: str, *, several: bool) -> LabelTable:
    try:
        value: Any = DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        lines: Sequence[str] = text.strip().split("\n", 2)
        if len(lines) > 1 and lines[0].strip().endswith("}"):  # an object in each line
            columns, structured = _json_lines(file, text)
            return LabelTable(file=file, columns=columns, first_row=1, structured=structured)
        raise UserError(f"{file} is not JSON: {error}") from None
    kind, columns, structured = json_columns(file, value, several=several)
    note_once(f"{file}: read as {kind}")
    return LabelTable(file=file, columns=columns, first_row=1, structured=structured)
