"""`vitral predict`: classifies image files."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vitral.commands.arguments.weights import source_options
from vitral.commands.loading import channels_of, check_head, load_classifier
from vitral.commands.output import csv_text, note, print_fitting, print_json, printable, progress_bar
from vitral.commands.predict_targets import target_writer
from vitral.data.images.bands import image_suffixes
from vitral.data.images.limits import max_pixels
from vitral.data.images.memory import limit_memory
from vitral.data.sources.folder import left_out
from vitral.errors import UserError, shortened
from vitral.files import as_csv
from vitral.serve.predictor import Failure, Prediction, Predictor

__all__ = ["image_files", "main"]

BAR = 10
"""Characters of the bar for a probability of 1."""


def main(options: argparse.Namespace) -> None:
    """Classifies; exits with code 1 if some images cannot be read, with 2 if none can, or without a trained head."""
    # a wrong value is reported once, not for every image
    limit_memory(options.memory, name="--memory")
    max_pixels()
    adapted = {"image_size": options.image_size, "token_merging": options.token_merging}
    model = load_classifier(options.run, **adapted, **source_options(options))
    check_head(model, options.run)
    predictor = Predictor(
        model,
        device=options.device,
        batch_size=options.batch_size,
        precision=options.precision,
        isolate=options.isolate,
        tta=options.tta,
    )
    if predictor.decoders is not None:
        note(predictor.decoders.protection)
    files = image_files(options.images, image_suffixes(channels_of(model)))
    card = predictor.card
    top_k = min(3, len(card.classes)) if options.top is None and card.target == "class" else options.top
    results = predictor.predict(files, top_k=top_k)
    form = "json" if options.json else "csv" if options.csv else "table"
    failures: list[Failure] = []
    enabled = not (options.csv and sys.stdout.isatty())
    results = with_progress(results, len(files), failures, enabled=enabled)
    if card.target != "class":
        count = target_writer(card, form)(results)
    else:
        count = {"json": write_json, "csv": write_csv, "table": write_table}[form](results, top_k or 1)
    if not count:
        raise UserError(failures[0].reason if len(files) == 1 else f"none of {len(files)} images could be classified")
    if failures:
        note(f"{len(failures)} of {len(files)} images could not be read")
        raise SystemExit(1)


def image_files(arguments: list[str], suffixes: Set[str]) -> list[str]:
    """The files that the command's arguments name, in order; those of a folder sorted.

    Args:
        arguments: files and folders; - is standard input.
        suffixes: lower-case endings of the images in a folder.

    Raises:
        UserError: a folder has no images, standard input no paths, or a name is empty.
    """
    files: list[str] = []
    for argument in arguments:
        if not argument:
            raise UserError("an image has an empty name: give image files, or folders with images")
        if argument == "-":
            lines = [line.rstrip("\r\n") for line in sys.stdin]
            names = [line for line in lines if line]
            if not names:
                raise UserError("standard input has no paths: give one per line")
        else:
            names = [argument]
        for name in names:
            files.extend(folder_images(name, suffixes) if os.path.isdir(name) else [name])  # noqa: PTH112
    return files


def folder_images(folder: str, suffixes: Set[str]) -> list[str]:
    """The image files in a folder and its subfolders, without hidden ones.

    Raises:
        UserError: there are none, or a folder cannot be listed.
    """

    def fail(error: OSError) -> None:
        raise UserError(f"{error.filename} cannot be listed: {error.strerror}")

    files, others = [], Counter[str]()
    for root, folders, names in os.walk(folder, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            ending = Path(name).suffix.lower()
            if ending in suffixes:
                files.append(str(Path(root, name)))
            else:
                others[ending] += 1
    if others:
        note(f"{folder}: {left_out(others, suffixes=suffixes)}")
    if not files:
        raise UserError(f"{folder} has no images: give image files, or a folder with images")
    return files


def with_progress(
    results: Iterator[Prediction | Failure], total: int, failures: list[Failure], *, enabled: bool
) -> Iterator[Prediction | Failure]:
    """The results, with a progress bar; collects failures, and prints a line for each of several images."""
    with progress_bar(enabled=enabled) as bar:
        task = bar.add_task("classifying", total=total)
        for result in results:
            if isinstance(result, Failure):
                failures.append(result)
                if total > 1:
                    note(result.reason)
            bar.advance(task)
            yield result


def write_json(results: Iterator[Prediction | Failure], top_k: int) -> int:
    """Prints one object; returns the number of images classified."""
    predictions: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    for result in results:
        if isinstance(result, Failure):
            failures.append({"file": result.name, "reason": result.reason})
            continue
        guesses = zip(result.classes, result.probabilities, strict=True)
        top = [{"class": name, "probability": probability} for name, probability in guesses]
        predictions.append({"file": result.name, **top[0], "top": top})
    print_json({"predictions": predictions, "failures": failures})
    return len(predictions)


def write_csv(results: Iterator[Prediction | Failure], top_k: int) -> int:
    """Prints a header and one line per image; returns the number of images classified."""
    more = [f"{name}_{place}" for place in range(2, top_k + 1) for name in ("class", "probability")]
    sys.stdout.write(as_csv([["file", "class", "probability", *more]]))
    count = 0
    for result in results:
        if isinstance(result, Prediction):
            pairs = zip(result.classes, result.probabilities, strict=True)
            guesses = [cell for name, probability in pairs for cell in (csv_text(name), f"{probability:.6f}")]
            sys.stdout.write(as_csv([[csv_text(result.name), *guesses]]))
            count += 1
    return count


def write_table(results: Iterator[Prediction | Failure], top_k: int) -> int:
    """Prints a table; returns the number of images classified."""
    table = Table()
    table.add_column("image", overflow="fold")
    table.add_column("class")
    table.add_column("probability", no_wrap=True)
    if top_k > 1:
        table.add_column("next guesses")
    for result in results:
        if isinstance(result, Prediction):
            best, *others = zip(result.classes, result.probabilities, strict=True)
            bar = "━" * round(BAR * best[1])
            cells = [
                shortened(best[0]),
                f"{best[1]:6.1%} {bar}",
                ", ".join(f"{shortened(name)} {probability:.1%}" for name, probability in others),
            ]
            table.add_row(*(escape(printable(cell)) for cell in [result.name, *cells][: 3 + (top_k > 1)]))
    if table.row_count:
        print_fitting(Console(highlight=False), table)
    return table.row_count
