"""Arguments of `vitral soup`."""

import argparse
from pathlib import Path

from vitral.commands.arguments.checks import check_run
from vitral.commands.arguments.flags import ArgumentParser
from vitral.errors import UserError

__all__ = ["parse"]

DESCRIPTION = """Average the weights of finished runs into one model (model soups, Wortsman et al. 2022). The runs must
have the same architecture and classes; they should have started from the same pretrained weights. The average is
evaluated on the held-out images of the runs, beside each of them."""

TOP = 5


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments.

    Raises:
        UserError: a folder is neither a run nor a sweep, there are too few, or `--out` is missing or exists.
    """
    parser = ArgumentParser(prog="vitral soup", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="finished runs, two or more; or one sweep")
    parser.add_argument("--out", type=Path, metavar="DIR", help="new folder for the model")
    parser.add_argument(
        "--greedy",
        action="store_true",
        help="add the runs from best to worst, without those that make the average worse on validation images",
    )
    parser.add_argument("--top", type=int, metavar="N", help=f"number of a sweep's best runs (default: {TOP})")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1; auto: a GPU if there is one")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if not options.runs:
        raise UserError("a soup needs two or more runs, or a sweep: vitral soup RUN RUN ... --out DIR")
    if options.out is None:
        raise UserError("a soup needs --out DIR, the new folder for its model")
    if options.out.exists():
        raise UserError(f"{options.out} exists: choose another --out")
    options.sweep = len(options.runs) == 1 and (options.runs[0] / "sweep.json").is_file()
    if options.top is not None and not options.sweep:
        raise UserError("--top is the number of a sweep's best runs: leave it out, or give the sweep's folder alone")
    options.top = TOP if options.top is None else options.top
    if options.top < 2:
        raise UserError(f"--top must be at least 2, not {options.top}")
    for run in () if options.sweep else options.runs:
        if (run / "sweep.json").is_file():
            raise UserError(f"{run} is a sweep: give it alone, or the folders of its runs")
        check_run(run)
    return options
