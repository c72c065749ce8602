"""What `vitral predict` prints of a model for several labels an image, or for a number."""

import sys
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vitral.card import ModelCard
from vitral.commands.output import csv_text, print_fitting, print_json, printable
from vitral.errors import shortened
from vitral.files import as_csv
from vitral.serve.predictor import Failure, Prediction

__all__ = ["target_writer"]

Results = Iterator[Prediction | Failure]
Writer = Callable[[Results], int]
"""Prints predictions, and returns their number."""

SEPARATOR = "|"
"""Between the labels in a cell."""


def target_writer(card: ModelCard, form: str) -> Writer:
    """What prints the predictions of a model.

    Args:
        card: of a model whose target is not a class.
        form: json, csv or table.
    """
    what = labels_of if card.target == "multi-label" else number_of
    if form == "json":
        return lambda results: write_json(results, what)
    write = write_csv if form == "csv" else write_table
    header = ("labels", "probabilities") if card.target == "multi-label" else (card.classes[0],)
    cells = label_cells if card.target == "multi-label" else number_cells
    return lambda results: write(results, header, lambda result: cells(result, form))


def labels_of(result: Prediction) -> dict[str, Any]:
    """The labels of an image as JSON."""
    pairs = zip(result.classes, result.probabilities, strict=True)
    return {"labels": [{"label": name, "probability": probability} for name, probability in pairs]}


def number_of(result: Prediction) -> dict[str, Any]:
    """The number of an image as JSON."""
    return {"value": result.value}


def label_cells(result: Prediction, form: str) -> tuple[str, ...]:
    """The labels of an image as cells of a table."""
    if form == "csv":
        return SEPARATOR.join(result.classes), SEPARATOR.join(f"{value:.6f}" for value in result.probabilities)
    return ", ".join(map(shortened, result.classes)) or "-", ", ".join(f"{value:.1%}" for value in result.probabilities)


def number_cells(result: Prediction, form: str) -> tuple[str, ...]:
    """The number of an image as a cell of a table."""
    return (f"{result.value:.7g}" if form == "csv" else f"{result.value:.4g}",)


def write_json(results: Results, what: Callable[[Prediction], dict[str, Any]]) -> int:
    """Prints one object; returns the number of predictions."""
    predictions: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    for result in results:
        if isinstance(result, Failure):
            failures.append({"file": result.name, "reason": result.reason})
        else:
            predictions.append({"file": result.name, **what(result)})
    print_json({"predictions": predictions, "failures": failures})
    return len(predictions)


def write_csv(results: Results, header: tuple[str, ...], cells: Callable[[Prediction], tuple[str, ...]]) -> int:
    """Prints a header and one line for each image; returns their number."""
    sys.stdout.write(as_csv([["file", *map(csv_text, header)]]))
    count = 0
    for result in results:
        if isinstance(result, Prediction):
            sys.stdout.write(as_csv([[csv_text(result.name), *map(csv_text, cells(result))]]))
            count += 1
    return count


def write_table(results: Results, header: tuple[str, ...], cells: Callable[[Prediction], tuple[str, ...]]) -> int:
    """Prints a table; returns the number of its rows."""
    table = Table()
    table.add_column("image", overflow="fold")
    for name in header:
        table.add_column(escape(printable(shortened(name))))
    for result in results:
        if isinstance(result, Prediction):
            table.add_row(*(escape(printable(cell)) for cell in (result.name, *cells(result))))
    if table.row_count:
        print_fitting(Console(highlight=False), table)
    return table.row_count
