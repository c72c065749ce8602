"""`vitral bench`: speed and memory of models, exported files and other libraries."""

import argparse
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from vitral.commands.arguments.weights import source_options
from vitral.commands.bench.contenders import Contender, Settings, exported_contender, load_model, vitral_contenders
from vitral.commands.bench.measure import Measurement, measure
from vitral.commands.bench.peers import find_peers
from vitral.commands.bench.report import as_json, as_rows, best_rows, groups, label, notes_of, rounded, table, title
from vitral.commands.output import finite, print_json, print_table, printable, progress_bar
from vitral.device import pick_device, prefers_bfloat16
from vitral.errors import UserError
from vitral.export.exported import is_exported
from vitral.files import as_csv, as_markdown, write_atomically, write_json

__all__ = ["main"]

LEGEND = "p50, p95, p99: milliseconds of a call; speed: times the first contender, in the same rounds"

WIDE = 110
"""Columns of a terminal that shows every column of the table."""


def main(options: argparse.Namespace) -> None:
    """Measures and prints the tables, or with `--json` one object; writes the files of `--out`."""
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = pick_device(options.device)
    settings = Settings(
        device=device,
        bfloat16=options.precision == "bfloat16" or (options.precision == "auto" and prefers_bfloat16(device)),
        train=options.train,
        compile=device.type == "cuda" if options.compile is None else options.compile,
        token_merging=options.token_merging,
    )
    contenders, notes = find_contenders(options, settings)
    with progress_bar() as bar:
        task = bar.add_task("measuring", total=len(options.batch_size) if options.batch_size else None)
        measurement = measure(
            contenders,
            device=device,
            batch_sizes=options.batch_size and sorted(set(options.batch_size)),
            seconds=options.seconds,
            advance=lambda: bar.advance(task),
        )
    measurement.notes[:0] = notes
    if not measurement.rows:
        raise UserError(f"nothing could be measured: {'; '.join(measurement.notes)}")
    facts = as_json(measurement, settings)
    print_json(facts) if options.json else print_report(measurement, settings)
    # last, so that a full disk does not lose the results
    for path in options.out:
        write(path, measurement, settings, facts)
        if not options.json:
            print(printable(f"written: {path}"))


def find_contenders(options: argparse.Namespace, settings: Settings) -> tuple[list[Contender], list[str]]:
    """Everything to measure, and notes on what is left out.

    Raises:
        UserError: a model is not found, or an exported file shall be trained.
    """
    contenders: list[Contender] = []
    notes: list[str] = []
    for name in options.models:
        if is_exported(name):
            if settings.train:
                raise UserError(f"{name} is an exported file, which cannot be trained: leave out --train, or the file")
            contenders.append(exported_contender(name, image_size=options.image_size))
            continue
        model = load_model(name, image_size=options.image_size, reading=source_options(options))
        known = any(each.architecture == model.config for each in contenders)
        peers: list[Contender] = []
        if options.peers and not known:
            peers, reasons = find_peers(name, model, settings)
            notes += reasons
        contenders += [*vitral_contenders(name, model, settings), *peers]
    return contenders, notes


def print_report(measurement: Measurement, settings: Settings) -> None:
    """Prints a table for each architecture, the fastest batches, and what disturbed the measurement."""
    wide = Console().width >= WIDE
    for group in groups(measurement.rows):
        print_table(title(group, settings), table(group, wide=wide), text_columns=2)
        for line in fastest(group):
            print(printable(line))
    print(LEGEND)
    for sentence in notes_of(measurement):
        print(printable(f"note: {sentence}"))


def fastest(group: list[Any]) -> list[str]:
    """A line for each contender: its highest throughput."""
    return [
        f"{label(row.contender, group)}: {rounded(row.images_per_second)} images/s at batch {row.batch_size}"
        for row in best_rows(group)
    ]


def write(path: Path, measurement: Measurement, settings: Settings, facts: dict[str, Any]) -> None:
    """Writes the results in the format of the file's ending."""
    match path.suffix.lower():
        case ".png":
            from vitral.commands.bench.plot import draw_speed  # here, as Matplotlib takes a second

            draw_speed(measurement.rows, settings, path)
            return
        case ".json":
            write_json(path, finite(facts))
            return
        case ".csv":
            text = as_csv(as_rows(measurement))
        case _:
            parts = [f"{title(group, settings)}\n\n{as_markdown(table(group))}" for group in groups(measurement.rows)]
            parts += [f"- {sentence}" for sentence in (LEGEND, *notes_of(measurement))]
            text = "\n".join(parts) + "\n"
    write_atomically(path, lambda file: file.write(printable(text).encode()))
