"""`vitral predict`: from image files to class names."""

import argparse
import csv
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vitral.commands.checkpoint import load_checkpoint
from vitral.commands.output import note, print_json, printable, progress_bar
from vitral.data.images.decode import IMAGE_SUFFIXES
from vitral.errors import UserError
from vitral.serve.predictor import Failure, Prediction, Predictor

__all__ = ["image_files", "main"]

BAR = 10
"""Characters of a probability's bar."""


def main(arguments: list[str]) -> None:
    """Classifies; exits with code 2 if not one image could be read."""
    options = parsed(arguments)
    predictor = Predictor(load_checkpoint(options.run), device=options.device, batch_size=options.batch_size)
    files = image_files(options.images)
    top_k = min(3, len(predictor.card.classes)) if options.top is None else options.top
    outcomes = predictor.predict(files, top_k=top_k)
    write = write_json if options.json else write_csv if options.csv else write_table
    done = write(reported(outcomes, len(files), shown=not (options.csv and sys.stdout.isatty())), top_k)
    if not done:
        raise UserError(f"not one of {len(files)} images could be classified")


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="vitral predict",
        description="Classifies image files with a trained model. A file that cannot be read is reported and left out.",
    )
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="folder of a trained model, another project's file, or hf-hub:OWNER/NAME"
    )
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="image files, folders (searched through and through), or - for paths from standard input, one a line",
    )
    parser.add_argument("--top", type=int, metavar="K", help="classes to name for each image (default: up to 3)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument("--csv", action="store_true", help="print comma-separated values, one image a line")
    parser.add_argument(
        "--batch-size", type=int, default=64, metavar="N", help="images computed together (default: %(default)s)"
    )
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1; auto takes a GPU where there is one (default: auto)"
    )
    return parser.parse_args(arguments)


def image_files(places: list[str]) -> list[str]:
    """The files behind the command's arguments, in their order; those of a folder sorted.

    Raises:
        UserError: a folder has no images, standard input no paths, or a name no letters.
    """
    files: list[str] = []
    for place in places:
        if not place:
            raise UserError("an image has the empty name: name image files, or folders with some in them")
        if place == "-":
            lines = [line.rstrip("\r\n") for line in sys.stdin]
            named = [line for line in lines if line]
            if not named:
                raise UserError("standard input has no paths: give one a line")
        else:
            named = [place]
        for name in named:
            files.extend(folder_images(name) if os.path.isdir(name) else [name])  # noqa: PTH112
    return files


def folder_images(folder: str) -> list[str]:
    """The image files in a folder and the folders below, hidden ones left out.

    Raises:
        UserError: there are none, or a folder cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename} cannot be listed: {error.strerror}")

    found = []
    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        images = (name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."))
        found.extend(str(Path(root, name)) for name in sorted(images))
    if not found:
        raise UserError(f"{folder} has no images: name image files, or a folder with some in it")
    return found


def reported(outcomes: Iterator[Prediction | Failure], total: int, *, shown: bool) -> Iterator[Prediction | Failure]:
    """The outcomes as they come, with a progress bar and a line on standard error for each failure."""
    with progress_bar(shown=shown) as bar:
        task = bar.add_task("classifying", total=total)
        for outcome in outcomes:
            if isinstance(outcome, Failure):
                note(outcome.reason)
            bar.advance(task)
            yield outcome


def write_json(outcomes: Iterator[Prediction | Failure], top_k: int) -> int:
    """Prints one object; returns how many images were classified."""
    predictions: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    for outcome in outcomes:
        if isinstance(outcome, Failure):
            failures.append({"file": outcome.name, "reason": outcome.reason})
            continue
        guesses = zip(outcome.classes, outcome.probabilities, strict=True)
        top = [{"class": name, "probability": probability} for name, probability in guesses]
        predictions.append({"file": outcome.name, **top[0], "top": top})
    print_json({"predictions": predictions, "failures": failures})
    return len(predictions)


def write_csv(outcomes: Iterator[Prediction | Failure], top_k: int) -> int:
    """Prints a header and one line an image as it comes; returns how many images were classified."""
    lines = csv.writer(sys.stdout, lineterminator="\n")
    more = [f"{name}_{place}" for place in range(2, top_k + 1) for name in ("class", "probability")]
    lines.writerow(["file", "class", "probability", *more])
    count = 0
    for outcome in outcomes:
        if isinstance(outcome, Prediction):
            pairs = zip(outcome.classes, outcome.probabilities, strict=True)
            guesses = [cell for name, probability in pairs for cell in (printable(name), f"{probability:.6f}")]
            lines.writerow([printable(outcome.name), *guesses])
            count += 1
    return count


def write_table(outcomes: Iterator[Prediction | Failure], top_k: int) -> int:
    """Prints a table; returns how many images were classified."""
    table = Table()
    table.add_column("image", overflow="fold")
    table.add_column("class")
    table.add_column("probability", no_wrap=True)
    if top_k > 1:
        table.add_column("next guesses")
    for outcome in outcomes:
        if isinstance(outcome, Prediction):
            best, *others = zip(outcome.classes, outcome.probabilities, strict=True)
            bar = "━" * round(BAR * best[1])
            cells = [best[0], f"{best[1]:6.1%} {bar}", ", ".join(f"{name} {share:.1%}" for name, share in others)]
            table.add_row(*(escape(printable(cell)) for cell in [outcome.name, *cells][: 3 + (top_k > 1)]))
    if table.row_count:
        Console(highlight=False).print(table)
    return table.row_count
