"""`vitral data pack`: a copy of data that is fast to read."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from vitral.commands.data.arguments import DataOptions, every_split, parsed
from vitral.commands.output import note, print_json, printable, progress_bar
from vitral.data.tools.pack import PackConfig, Packed, pack
from vitral.errors import UserError

__all__ = ["Options", "main"]


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    """Copies data into memory-mapped Arrow files; the same command again goes on with a copy that was interrupted."""

    short_side: int | None = None
    """Pixels of the short side of larger images, which become JPEGs; without it every file stays as it is."""
    quality: int = 90
    """Quality of the JPEGs that are written, 1 to 100."""
    workers: int = os.cpu_count() or 1
    """Shards that are written at once; what comes out does not depend on it."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object."""


def main(arguments: list[str]) -> None:
    """Packs, and prints what came of it; with `--json`, one object."""
    options, words = parsed(Options, arguments, program="vitral data pack", places=("DATA", "FOLDER"))
    if options.workers < 1:
        raise UserError(f"--workers must be at least 1, not {options.workers}")
    config = PackConfig(short_side=options.short_side, quality=options.quality, on_error=options.data.on_error)
    splits, target = every_split(options.data), Path(words[1])
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
        note(f"left out: {sentence}")
    print_json(as_json(target, result)) if options.json else print_result(target, result)


def as_json(target: Path, result: Packed) -> dict[str, Any]:
    """The result as plain values."""
    return {"folder": str(target), **asdict(result)}


def print_result(target: Path, result: Packed) -> None:
    """How much there is, and how to train on it."""
    console = Console(highlight=False)
    if not result.fresh:
        console.print("nothing to do: the copy is whole")
    counts = ", ".join(f"{count:,} {split}" for split, count in result.num_images.items())
    console.print(f"{counts} images, {result.num_bytes / 1e6:,.1f} MB")
    console.print(printable(f"use it with --data.source hub --data.root {target}"), markup=False, soft_wrap=True)
