"""Arguments of `vitral study`."""

import argparse
import os
from pathlib import Path

from vitral.commands.arguments.flags import ArgumentParser
from vitral.errors import UserError, unknown_name
from vitral.studies.registry import STUDIES

__all__ = ["parse"]

USAGE = """usage: vitral study NAME [--size mini] [--out DIR] [--seeds 0,1,2] [--jobs 1] [--data-root DIR] [--json]
       vitral study plan NAME [the same options]
       vitral study list [--json]

Repeat a table or figure of the paper: train every setting with every seed, and write the result with the paper's
values, a picture, and a test of each finding.

--size          mini: Fashion-MNIST on two cores; small: ImageNet at 64 pixels on one GPU; paper: the paper's setting
--out DIR       folder of the studies and of their runs, which they share (default: studies)
--seeds S1,S2   seeds of every setting (default: 0,1,2); the tests of significance need two or more
--jobs N        runs to train at the same time (default: 1)
--steps N       train every run for so many steps instead, to try a study
--data-root DIR the images, for sizes whose images are yours

The same command resumes a study that was stopped. `vitral study plan` estimates its time and memory."""


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command's options; `action` is run, plan or list.

    Raises:
        UserError: there is no such study, or an option is wrong.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        raise SystemExit(0 if arguments else 2)
    action = arguments[0] if arguments[0] in ("list", "plan") else "run"
    rest = arguments if action == "run" else arguments[1:]
    parser = ArgumentParser(prog="vitral study", usage=argparse.SUPPRESS, add_help=False, allow_abbrev=False)
    parser.add_argument("--json", action="store_true")
    if action != "list":
        parser.add_argument("name", metavar="NAME")
        parser.add_argument("--size", choices=("mini", "small", "paper"), default="mini")
        parser.add_argument("--out", type=Path, default=Path("studies"))
        parser.add_argument("--seeds", default="0,1,2")
        parser.add_argument("--jobs", type=int, default=1)
        parser.add_argument("--steps", type=int)
        parser.add_argument("--data-root", type=Path)
    if {"-h", "--help"} & set(rest):
        print(USAGE)
        raise SystemExit(0)
    options = parser.parse_args(rest)
    options.action = action
    if action != "list":
        _check(options)
    return options


def _check(options: argparse.Namespace) -> None:
    """Checks values, and turns seeds into integers."""
    if options.name not in STUDIES:
        raise unknown_name("study", options.name, STUDIES)
    seeds = [part.strip() for part in options.seeds.split(",")]
    if not all(part.isdecimal() for part in seeds):
        raise UserError(f"--seeds must be integers such as 0,1,2, not {options.seeds}")
    options.seeds = [int(part) for part in seeds]
    if len(set(options.seeds)) < len(seeds):
        raise UserError(f"--seeds has a seed twice: {','.join(seeds)}")
    if options.steps is not None and options.steps < 1:
        raise UserError(f"--steps must be at least 1, not {options.steps}")
    cores = os.cpu_count() or 1
    if not 1 <= options.jobs <= cores:
        raise UserError(f"--jobs must be between 1 and {cores}, the cores of this machine, not {options.jobs}")
    if options.out.exists() and not options.out.is_dir():
        raise UserError(f"{options.out} is not a folder: choose another --out")
