"""What the rows of a label file say about their images: a class, several labels, or a number."""

import ast
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vitral.data.config import DataConfig
from vitral.data.notes import note_once
from vitral.data.sources.label_columns import ChosenColumns, read_classes
from vitral.data.sources.label_tables import LabelTable
from vitral.data.sources.labels import similar_class
from vitral.data.sources.source import Labels
from vitral.errors import UserError

__all__ = ["Rows", "encode_targets", "merge_repeated", "multi_hot", "read_targets"]

SEPARATORS = ("|", ";", ",", " ")
"""What may separate the labels in a cell, from the least likely to be part of a name."""

LARGEST = float(np.finfo(np.float32).max)
"""Of the numbers that can be learned."""

LISTED = 3
"""Examples in a note."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Some rows of a label file."""

    paths: list[str]
    targets: list[Any]
    """Name of each image's class, tuple of its labels, or its number."""
    groups: list[str] | None
    """Group of each image; None: the data has none."""

    def select(self, rows: Sequence[int]) -> "Rows":
        """These rows only."""
        paths, targets = ([column[row] for row in rows] for column in (self.paths, self.targets))
        return Rows(
            paths=paths, targets=targets, groups=None if self.groups is None else [self.groups[row] for row in rows]
        )


def read_targets(table: LabelTable, chosen: ChosenColumns, config: DataConfig) -> list[Any]:
    """What each row says of its image: the name of a class, a tuple of labels, or a number.

    Raises:
        UserError: a row says something else.
    """
    if config.target == "regression":
        assert chosen.label is not None
        return _read_numbers(table, chosen.label)
    if config.target == "multi-label":
        return _read_label_sets(table, chosen, config)
    return read_classes(table, chosen)


def encode_targets(
    targets: Mapping[str, Sequence[Any]], config: DataConfig, *, name: str | None
) -> tuple[tuple[str, ...], dict[str, Labels]]:
    """Names of the classes or labels, and the labels of each split as `Source` has them.

    Args:
        targets: for each split, what `read_targets` gave.
        config: the target, and the names if the user gave them.
        name: of the column.

    Raises:
        UserError: another split has a class that "train" lacks, or there are fewer than two labels.
    """
    if config.target == "regression":
        arrays: dict[str, Labels] = {split: np.array(each, np.float32)[:, None] for split, each in targets.items()}
        return (name or "number",), arrays
    several = config.target == "multi-label"
    found = {
        split: {label for labels in each for label in labels} if several else set(each)
        for split, each in targets.items()
    }
    classes = config.class_names or _sorted_classes(found["train"])
    for split, names in found.items():
        if unknown := sorted(names - set(classes)):
            similar = similar_class(unknown[0], classes)
            kind, rest = ("label", "it") if several else ("class", "these rows")
            advice = f"rename it to {similar!r}" if similar else f"remove {rest}"
            raise UserError(f"{config.root} has the {kind} {unknown[0]!r} in its {split} images only: {advice}")
    numbers = {name: number for number, name in enumerate(classes)}
    if not several:
        return classes, {
            split: np.fromiter(map(numbers.__getitem__, each), np.int64, len(each)) for split, each in targets.items()
        }
    if missing := [name for name in classes if name not in found["train"]]:
        raise UserError(
            f"{config.root} has no training image with the label {missing[0]!r}: leave it out of --data.class-names"
        )
    if len(classes) < 2:
        raise UserError(
            f"{config.root} has {'only the label ' + repr(classes[0]) if classes else 'no labels'}: --data.target "
            "multi-label needs at least two"
        )
    return classes, {split: multi_hot(each, numbers) for split, each in targets.items()}


def multi_hot(label_sets: Sequence[Sequence[str]], numbers: Mapping[str, int]) -> Labels:
    """Zeros, with 1 for each label of each image."""
    hot = np.zeros((len(label_sets), len(numbers)), np.float32)
    for row, labels in enumerate(label_sets):
        hot[row, [numbers[name] for name in labels]] = 1
    return hot


def merge_repeated(file: Path, rows: Rows, config: DataConfig) -> Rows:
    """The rows with one for each image, which has the labels of all of its rows; other targets stay as they are.

    Notes images that are named more than once.

    Raises:
        UserError: an image has two classes or two numbers.
    """
    first: dict[str, int] = {}
    for row, path in enumerate(rows.paths):
        first.setdefault(path, row)
    if len(first) == len(rows.paths):
        return rows
    repeated = len(rows.paths) - len(first)
    if config.target == "multi-label":
        merged: dict[str, dict[str, None]] = {path: {} for path in first}
        for path, labels in zip(rows.paths, rows.targets, strict=True):
            merged[path].update(dict.fromkeys(labels))
        note_once(f"{file} names {repeated:,} images more than once: each has the labels of all of its rows")
        return replace(rows.select(list(first.values())), targets=[tuple(labels) for labels in merged.values()])
    for path, target in zip(rows.paths, rows.targets, strict=True):
        if (other := rows.targets[first[path]]) != target:
            kind = "classes" if config.target == "class" else "numbers"
            several = ", or learn both with --data.target multi-label" if config.target == "class" else ""
            raise UserError(f"{file} gives {path} the {kind} {other!r} and {target!r}: keep one{several}")
    note_once(f"{file} names {repeated:,} images more than once, which may put one into two splits")
    return rows


def _read_numbers(table: LabelTable, column: str) -> list[float]:
    numbers: list[float] = []
    for row, cell in enumerate(table.columns[column], table.first_row):
        try:
            number = float(cell)
        except ValueError:
            number = math.nan
        if not abs(number) <= LARGEST:  # not NaN either
            state = f"{cell[:60]!r}" if cell.strip() else "no number"
            raise UserError(
                f"{table.file} has {state} in row {row} of its column {column}, and --data.target regression needs a "
                "number for each image: correct it, remove the row, or choose another column with --data.label-column"
            )
        numbers.append(number)
    return numbers


def _read_label_sets(table: LabelTable, chosen: ChosenColumns, config: DataConfig) -> list[tuple[str, ...]]:
    if chosen.label is None:
        if config.label_separator is not None:
            raise UserError(
                f"{table.file} has {len(chosen.one_hot)} columns of 0 and 1: leave out --data.label-separator, or "
                "choose the column with the labels with --data.label-column"
            )
        flags = [[cell.strip() in ("1", "1.0") for cell in table.columns[name]] for name in chosen.one_hot]
        sets = [
            tuple(name for name, flag in zip(chosen.one_hot, row, strict=True) if flag)
            for row in zip(*flags, strict=True)
        ]
    else:
        sets = _split_cells(table, chosen.label, config)
    if without := sum(not labels for labels in sets):
        plural = "s have" if without > 1 else " has"
        note_once(f"{table.file}: {without:,} image{plural} no label, and {'are' if without > 1 else 'is'} kept so")
    return sets


def _split_cells(table: LabelTable, column: str, config: DataConfig) -> list[tuple[str, ...]]:
    """The labels in each cell of a column, without spaces around them, each once."""
    cells = table.columns[column]
    lists = {cell: labels for cell in set(cells) if cell.startswith("[") and (labels := _listed(cell)) is not None}
    if column in table.structured and (other := cells[table.structured[column]]) not in lists:
        row = table.structured[column] + table.first_row
        raise UserError(f"{table.file} has {other[:60]} as the labels of row {row}: give a list of words")
    separator = config.label_separator or ("" if lists else _guess_separator({*cells}))
    if config.label_separator is not None and not any(separator in cell for cell in cells):
        raise UserError(
            f"{table.file} has no {separator!r} in its column {column}, such as in {cells[0][:60]!r}: change "
            "--data.label-separator"
        )
    if config.label_separator is None and not lists:
        _note_separator(table.file, column, separator, cells)
    split = {cell: lists[cell] if cell in lists else _parts(cell, separator) for cell in set(cells)}
    return [split[cell] for cell in cells]


def _listed(cell: str) -> tuple[str, ...] | None:
    """The labels of a list as JSON or Python writes it; None for other text."""
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(cell)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, list) and not any(isinstance(label, list | dict) for label in value):
            return tuple(dict.fromkeys(str(label).strip() for label in value))
    return None


def _parts(cell: str, separator: str) -> tuple[str, ...]:
    parts = (part.strip() for part in (cell.split(separator) if separator else [cell]))
    return tuple(dict.fromkeys(part for part in parts if part))


def _guess_separator(cells: set[str]) -> str:
    """The separator that fits the cells; empty if none does."""
    for separator in SEPARATORS[:-1]:
        if any(len(_parts(cell, separator)) > 1 for cell in cells):
            return separator
    # a space may be part of a name: then its parts are no labels, and more than the names
    spaced = {cell for cell in cells if len(_parts(cell, " ")) > 1}
    parts = {part for cell in spaced for part in _parts(cell, " ")}
    single = {cell.strip() for cell in cells - spaced}
    return " " if spaced and (parts <= single or len(parts) < len(spaced)) else ""


def _note_separator(file: Path, column: str, separator: str, cells: Sequence[str]) -> None:
    if not separator:
        note_once(
            f"{file}: no cell of the column {column!r} has several labels; --data.label-separator names what separates "
            "them"
        )
        return
    example = next(cell for cell in cells if len(_parts(cell, separator)) > 1)
    labels = _parts(example, separator)
    listed = ", ".join(map(repr, labels[:LISTED])) + (", ..." if len(labels) > LISTED else "")
    shown = {" ": "spaces"}.get(separator, repr(separator))
    note_once(
        f"{file}: labels in the column {column!r} are separated by {shown}: {example[:60]!r} has {len(labels)}, "
        f"{listed}; --data.label-separator changes it"
    )


def _sorted_classes(classes: set[str]) -> tuple[str, ...]:
    """Sorted classes; numbers by their value."""
    if all(name.isascii() and name.isdigit() for name in classes):
        return tuple(sorted(classes, key=lambda name: (int(name), name)))
    return tuple(sorted(classes))
