"""`vitral data check`: reports what data consists of, and problems in it."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vitral.commands.arguments.checks import check_model, check_output, picture_path
from vitral.commands.arguments.weights import pop_source_options, source_options
from vitral.commands.data.arguments import DataOptions, check_workers, open_every_split, parse_options
from vitral.commands.data.suspects import Suspect, draw_suspects, print_suspects, suspects_of, write_csv
from vitral.commands.output import note, print_json, printable, progress_bar
from vitral.data.sources.exclude import write_list
from vitral.data.sources.source import Source
from vitral.data.tools.check import KINDS, CheckConfig, CheckResult, Finding, check
from vitral.data.tools.summary import DataSummary
from vitral.errors import UserError
from vitral.files import write_atomically

__all__ = ["Options", "main"]

MAX_PRINTED, MAX_ON_PAGE = 20, 1000
"""Problems of each kind that are printed, and on the page; `--json` has all."""

MAX_VALUES = 8
"""Values of a property that are printed."""


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    """Read every image, and report what the data consists of, unreadable files, duplicates and conflicting classes.

    With a model, also likely wrong labels, outliers and ambiguous images.
    """

    smallest: int = 32
    """Images with a shorter side of fewer pixels are reported as tiny."""
    largest: int = 50_000_000
    """Images with more pixels in total are reported as huge."""
    write: Path | None = None
    """File to write the names of unreadable images to, for --data.exclude."""
    page: Path | None = None
    """HTML file to write everything to."""
    model: str | None = None
    """Also find likely wrong labels, outliers and ambiguous images by the features of this model, given as for `vitral
    eval`."""
    sheet: Path | None = None
    """With a model: contact sheet of these images, by default suspects.png in the current folder."""
    csv: Path | None = None
    """With a model: CSV file to write these images to, for --data.exclude."""
    device: str = "auto"
    """Device of the model: cpu, cuda, cuda:1, mps, xpu; auto: a GPU if there is one."""
    strict: tyro.conf.FlagCreatePairsOff[bool] = False
    """Exit with code 1 if anything is reported."""
    workers: int = os.cpu_count() or 1
    """Number of threads that read images."""
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one JSON object."""


def main(arguments: list[str]) -> None:
    """Checks, and prints tables; with `--json`, one object."""
    source, arguments = pop_source_options(arguments, "vitral data check")
    reading = source_options(source)
    options, words = parse_options(Options, arguments, program="vitral data check", positionals=("DATA",))
    sheet = check_options(options, reading)
    config = CheckConfig(smallest=options.smallest, largest=options.largest)
    splits = open_every_split(options.data)
    total = sum(map(len, splits.values()))
    with progress_bar() as bar:
        task = bar.add_task("checking", total=total)
        result = check(
            splits,
            config,
            threads=options.workers,
            advance=lambda count: bar.advance(task, count),
            channels=options.data.channels,
        )
    findings = result.findings
    images, suspects = None, []
    if options.model is not None:
        images, suspects = suspects_of(splits, options.data, options.model, device=options.device, reading=reading)
    if options.write is not None:
        unreadable = [finding.names[0] for finding in findings if finding.kind == "unreadable"]
        write_list(options.write, unreadable, root=options.data.root)
    if options.json:
        counts = {split: len(source) for split, source in splits.items()}
        whole = {"data": words[0], "num_images": counts, "findings": [asdict(finding) for finding in findings]}
        print_json(whole | {"summary": asdict(result.summary), "suspects": [asdict(one) for one in suspects]})
    else:
        print_summary(words[0], total, result.summary)
        print_findings(findings)
    if images is not None:
        if not options.json:
            print_suspects(suspects, root=options.data.root)
        write_suspects(options, images, suspects, sheet)
    if options.page is not None:
        write_page(options.page, words[0], total, result)
        note(f"page: {options.page}")
    if (findings or any(one.exclude for one in suspects)) and options.strict:
        raise SystemExit(1)


def check_options(options: Options, reading: Mapping[str, Any]) -> Path:
    """Checks everything before images are read; returns the path of the contact sheet.

    Raises:
        UserError: a value is out of range, a file cannot be written, there is no such model, or an option needs one.
    """
    check_workers(options.workers)
    check_output(options.page, suffixes=(".html",), option="--page")
    check_output(options.csv, suffixes=(".csv",), option="--csv")
    if options.model is None:
        given = {"--sheet": options.sheet, "--csv": options.csv, **{f"--{name}": 1 for name in reading}}
        if needing := next((flag for flag, value in given.items() if value is not None), None):
            raise UserError(f"{needing.replace('_', '-')} needs --model, a trained model such as runs/photos")
        return Path()
    check_model(options.model)
    return picture_path(options.sheet, default=Path("suspects.png"))


def write_suspects(options: Options, images: Source, suspects: list[Suspect], sheet: Path) -> None:
    """Writes the contact sheet and the CSV, and says how to go on."""
    root = options.data.root
    if suspects:
        draw_suspects(sheet, images, suspects, root=root)
        note(f"contact sheet: {sheet}")
    if options.csv is not None:
        write_csv(options.csv, suspects, root=root)
        note(f"edit the column `exclude` of {options.csv}, then train with --data.exclude {options.csv}")


def print_summary(data: str, total: int, summary: DataSummary) -> None:
    """Prints a table of what the data consists of."""
    table = Table(title=printable(f"{data}: {total:,} images"), title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in summary_rows(summary):
        table.add_row(name, escape(printable(value)))
    Console(highlight=False).print(table)


def summary_rows(summary: DataSummary) -> list[tuple[str, str]]:
    """Each property with its values and their number of images."""
    rows = [("classes", f"{len(summary.classes):,}")]
    if summary.imbalance is not None:
        most, fewest, ratio = summary.imbalance
        counts = [summary.classes[name]["train"] for name in (fewest, most)]
        each = f"{counts[0]:,}" if ratio == 1 else f"{counts[0]:,} ({fewest}) to {counts[1]:,} ({most})"
        rows.append(("training images per class", each))
    if summary.short_sides is not None:
        smallest, median, largest = summary.short_sides
        rows.append(("short side", f"{smallest:,} to {largest:,} pixels, median {median:,}"))
    for name, values in summary.properties.items():
        listed = [f"{value} {count:,}" for value, count in list(values.items())[:MAX_VALUES]]
        more = [f"{len(values) - MAX_VALUES:,} others"] if len(values) > MAX_VALUES else []
        rows.append((name, ", ".join([*listed, *more])))
    return rows


def print_findings(findings: list[Finding]) -> None:
    """Prints the number of findings of each kind, then the first of each."""
    console = Console(highlight=False)
    counts = Counter(finding.kind for finding in findings)
    if not findings:
        console.print("no problems")
        return
    table = Table("problem", "meaning")
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


def write_page(path: Path, data: str, total: int, result: CheckResult) -> None:
    """Writes everything as one HTML page.

    Raises:
        OSError: the page cannot be written.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # only here, as few checks write a page

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    classes = result.summary.classes
    page = environment.get_template("check.html").render(
        data=data,
        total=total,
        findings=result.findings,
        kinds=KINDS,
        most=MAX_ON_PAGE,
        rows=summary_rows(result.summary),
        summary=result.summary,
        splits=list(next(iter(classes.values()), {})),
        largest=max((counts["train"] for counts in classes.values()), default=0) or 1,
    )
    write_atomically(path, lambda file: file.write(printable(page).encode()))
