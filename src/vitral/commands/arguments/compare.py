"""Arguments of `vitral compare`."""

import argparse
from pathlib import Path

from vitral.commands.arguments.checks import check_output, check_run
from vitral.commands.arguments.flags import ArgumentParser
from vitral.suites.published import SOURCES

__all__ = ["parse"]

DESCRIPTION = """Compare finished runs: final metrics, the difference to the first run's accuracy with its 95 %
confidence interval (paired bootstrap over the images that both were evaluated on), parameters, steps, training time
and images per second; then the settings that differ."""


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments.

    Raises:
        UserError: a folder is not a training run, or a file of `--out` cannot be written.
    """
    parser = ArgumentParser(prog="vitral compare", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="folders of finished runs, two or more")
    parser.add_argument(
        "--out",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="write the comparison to a file: a table (.md, .csv) or a picture (.png); repeat it for several files",
    )
    parser.add_argument(
        "--published",
        action="store_true",
        help=f"add the accuracy that the ViT paper reports on the same images: {', '.join(SOURCES)}",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    for path in options.out:
        check_output(path, suffixes=(".md", ".csv", ".png"))
    for run in options.runs:
        check_run(run)
    return options
