"""Arguments of `vitral report`."""

import argparse
from pathlib import Path

from vitral.commands.arguments.checks import check_run
from vitral.commands.arguments.flags import ArgumentParser

__all__ = ["parse"]


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments.

    Raises:
        UserError: RUN is not a training run.
    """
    parser = ArgumentParser(
        prog="vitral report",
        description="Write RUN/report.html, the page about a run: metrics, curves, mistakes, speed and configuration. "
        "Training writes it at the end; this command writes it again, also for a run that has not finished.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a training run")
    parser.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1, mps or xpu, to evaluate a run without saved predictions"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    check_run(options.run)
    return options
