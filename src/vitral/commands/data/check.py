"""`vitral data check`: reports problems in data."""

import os
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from vitral.commands.data.arguments import DataOptions, check_workers, open_every_split, parse_options
from vitral.commands.output import print_json, printable, progress_bar
from vitral.data.sources.exclude import write_list
from vitral.data.tools.check import KINDS, CheckConfig, Finding, check

__all__ = ["Options", "main"]

MAX_PRINTED = 20
"""Problems of each kind that are printed; `--json` has all."""


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    """Read every image, and report unreadable files, duplicates, conflicting classes and unusual sizes."""

    smallest: int = 32
    """Images with a shorter side of fewer pixels are reported as tiny."""
    largest: int = 50_000_000
    """Images with more pixels in total are reported as huge."""
    write: Path | None = None
    """File to write the names of unreadable images to, for --data.exclude."""
    strict: tyro.conf.FlagCreatePairsOff[bool] = False
    """Exit with code 1 if anything is reported."""
    workers: int = os.cpu_count() or 1
    """Number of threads that read images."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object."""


def main(arguments: list[str]) -> None:
    """Checks, and prints a table of findings; with `--json`, one object."""
    options, words = parse_options(Options, arguments, program="vitral data check", positionals=("DATA",))
    check_workers(options.workers)
    config = CheckConfig(smallest=options.smallest, largest=options.largest)
    splits = open_every_split(options.data)
    total = sum(map(len, splits.values()))
    with progress_bar() as bar:
        task = bar.add_task("checking", total=total)
        findings = check(
            splits,
            config,
            threads=options.workers,
            advance=lambda count: bar.advance(task, count),
            channels=options.data.channels,
        )
    if options.write is not None:
        unreadable = [finding.names[0] for finding in findings if finding.kind == "unreadable"]
        write_list(options.write, unreadable, root=options.data.root)
    if options.json:
        counts = {split: len(source) for split, source in splits.items()}
        print_json({"data": words[0], "num_images": counts, "findings": [asdict(finding) for finding in findings]})
    else:
        print_findings(words[0], total, findings)
    if findings and options.strict:
        raise SystemExit(1)


def print_findings(data: str, total: int, findings: list[Finding]) -> None:
    """Prints the number of findings of each kind, then the first of each."""
    console = Console(highlight=False)
    counts = Counter(finding.kind for finding in findings)
    if not findings:
        console.print(printable(f"{data}: {total:,} images, no problems"), markup=False, soft_wrap=True)
        return
    table = Table("finding", "meaning", title=printable(f"{data}: {total:,} images"), title_justify="left")
    table.add_column("count", justify="right")
    for kind, count in counts.items():
        table.add_row(kind, KINDS[kind], f"{count:,}")
    console.print(table)
    for kind, count in counts.items():
        console.print(f"\n{kind}", style="bold")
        for finding in [finding for finding in findings if finding.kind == kind][:MAX_PRINTED]:
            console.print(printable(f"  {finding.detail}"), markup=False, soft_wrap=True)
        if count > MAX_PRINTED:
            console.print(f"  and {count - MAX_PRINTED:,} more, which --json lists")
