"""`vitral data pack`: copies data to a format that is fast to read."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from vitral.commands.data.arguments import DataOptions, check_pictures, check_workers, open_every_split, parse_options
from vitral.commands.output import note, print_json, printable, progress_bar
from vitral.data.tools.pack import PackConfig, Packed, pack
from vitral.errors import UserError

__all__ = ["Options", "main"]


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    """Copy data to memory-mapped Arrow files; the same command continues an interrupted copy."""

    short_side: int | None = None
    """Shrink larger images to this shorter side in pixels, as JPEG; by default files are copied unchanged."""
    quality: int = 90
    """JPEG quality, 1 to 100."""
    workers: int = os.cpu_count() or 1
    """Number of threads that write shards; the result does not depend on it."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object."""


def main(arguments: list[str]) -> None:
    """Packs, and prints the size of the copy; with `--json`, one object."""
    options, words = parse_options(Options, arguments, program="vitral data pack", positionals=("DATA", "FOLDER"))
    check_workers(options.workers)
    check_pictures(options.data, program="vitral data pack")
    if options.data.target != "class":
        raise UserError(f"vitral data pack stores one class for each image, not --data.target {options.data.target}")
    config = PackConfig(short_side=options.short_side, quality=options.quality, on_error=options.data.on_error)
    splits, target = open_every_split(options.data), Path(words[1])
    with progress_bar() as bar:
        task = bar.add_task("packing", total=sum(map(len, splits.values())))
        result = pack(
            splits,
            target,
            config,
            root=options.data.root,
            threads=options.workers,
            advance=lambda count: bar.advance(task, count),
        )
    for sentence in result.unreadable:
        note(f"skipped: {sentence}")
    print_json(as_json(target, result)) if options.json else print_result(target, result)


def as_json(target: Path, result: Packed) -> dict[str, Any]:
    """The result as plain values."""
    return {"folder": str(target), **asdict(result)}


def print_result(target: Path, result: Packed) -> None:
    """Prints the size of the copy, and how to train on it."""
    console = Console(highlight=False)
    if not result.fresh:
        console.print("nothing to do: the copy is complete")
    counts = ", ".join(f"{count:,} {split}" for split, count in result.num_images.items())
    console.print(f"{counts} images, {result.num_bytes / 1e6:,.1f} MB")
    console.print(printable(f"use it with --data.source hub --data.root {target}"), markup=False, soft_wrap=True)
