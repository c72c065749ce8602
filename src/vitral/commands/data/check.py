"""`vitral data check`: what is wrong with data."""

import os
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from vitral.commands.data.arguments import DataOptions, every_split, parsed
from vitral.commands.output import print_json, printable, progress_bar
from vitral.data.sources.exclude import write_list
from vitral.data.tools.check import KINDS, CheckConfig, Finding, check
from vitral.errors import UserError

__all__ = ["Options", "main"]

SHOWN = 20
"""ReportData of each kind that are printed; `--json` has all."""


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    """Reads every image, and finds files that cannot be read, copies, classes that disagree, odd sizes."""

    smallest: int = 32
    """Pixels of the short side below which an image is called tiny."""
    largest: int = 50_000_000
    """Pixels in all above which an image is called huge."""
    write: Path | None = None
    """File to list the images in that cannot be read, for --data.exclude."""
    strict: tyro.conf.FlagCreatePairsOff[bool] = False
    """Exit with code 1 where anything was found."""
    workers: int = os.cpu_count() or 1
    """Images that are read at once."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object."""


def main(arguments: list[str]) -> None:
    """Checks, and prints a table of what was found; with `--json`, one object."""
    options, words = parsed(Options, arguments, program="vitral data check", places=("DATA",))
    if options.workers < 1:
        raise UserError(f"--workers must be at least 1, not {options.workers}")
    config = CheckConfig(smallest=options.smallest, largest=options.largest)
    splits = every_split(options.data)
    total = sum(map(len, splits.values()))
    with progress_bar() as bar:
        task = bar.add_task("checking", total=total)
        findings = check(splits, config, threads=options.workers, advance=lambda count: bar.advance(task, count))
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
    """How many of each kind, then the first of each."""
    console = Console(highlight=False)
    counts = Counter(finding.kind for finding in findings)
    if not findings:
        console.print(printable(f"{data}: {total:,} images, nothing to complain of"), markup=False, soft_wrap=True)
        return
    table = Table("found", "meaning", title=printable(f"{data}: {total:,} images"), title_justify="left")
    table.add_column("times", justify="right")
    for kind, count in counts.items():
        table.add_row(kind, KINDS[kind], f"{count:,}")
    console.print(table)
    for kind, count in counts.items():
        console.print(f"\n{kind}", style="bold")
        for finding in [finding for finding in findings if finding.kind == kind][:SHOWN]:
            console.print(printable(f"  {finding.detail}"), markup=False, soft_wrap=True)
        if count > SHOWN:
            console.print(f"  and {count - SHOWN:,} more, which --json lists")
