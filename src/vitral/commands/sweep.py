"""`vitral sweep`: many runs of a recipe with other settings."""

import argparse
import math
import statistics
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vitral.commands.output import note, print_json, printable
from vitral.commands.train import started
from vitral.distributed.world import join_processes
from vitral.errors import UserError
from vitral.sweeps.config import Range, SweepConfig
from vitral.sweeps.results import Result, short, spread
from vitral.sweeps.sweep import Sweep
from vitral.train.duration import parse_timeout
from vitral.train.interrupts import Interrupted

__all__ = ["main"]

USAGE = """usage: vitral sweep RECIPE --out DIR --grid KEY=V1,V2 [--grid ...] [--KEY VALUE ...]
       vitral sweep RECIPE --out DIR --search KEY=LOW:HIGH[:log] [--search ...] [--trials 20] [--KEY VALUE ...]
       (and [--retrain S1,S2] [--seeds 0] [--metric val/top1] [--json]; under torchrun also [--timeout 10min])

Trains a recipe with every combination of a grid, or with settings that optuna searches, each in a folder of its
own in DIR, and lists them by a figure of held-out images, the best first. Images are held out by
--data.val-share, unless the data has a validation split of its own.

--seeds S1,S2     trains every combination with each of these seeds, and compares their means
--retrain S1,S2   then trains the best with each of these seeds on all but the test images, which it is measured by
--search          draws whole numbers for keys that take no others, such as model.depth=2:8

The same command goes on with a sweep that was stopped, from the checkpoint of the run under way; --trials may be
raised, and --retrain added. With the rates of the paper's Table 4 this is its fine-tuning protocol, four runs with
seed 0 to choose the rate by, and three of the best:

  vitral sweep paper-pets --out sweeps/pets --model.weights B_16.npz --data.root pets --data.val-share 0.1 \\
      --grid optim.lr=0.001,0.003,0.01,0.03 --retrain 0,1,2"""

T = TypeVar("T")


def main(arguments: list[str]) -> None:
    """Runs the sweep and prints its table; with `--json`, one object."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        raise SystemExit(0 if arguments else 2)
    parser = argparse.ArgumentParser(prog="vitral sweep", usage=argparse.SUPPRESS, add_help=False, allow_abbrev=False)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--grid", action="append", default=[])
    parser.add_argument("--search", action="append", default=[])
    parser.add_argument("--trials", type=int)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--retrain", nargs="?", const="")
    parser.add_argument("--metric", default="val/top1")
    parser.add_argument("--timeout", default="10min")
    parser.add_argument("--json", action="store_true")
    known, rest = parser.parse_known_args(arguments)
    if known.out is None:
        raise UserError("a sweep needs --out DIR, the folder of its runs; the same folder goes on with it")
    config = SweepConfig(
        recipe=rest,
        grid=by_key(map(listed, known.grid)),
        search=by_key(map(ranged, known.search)),
        trials=known.trials,
        seeds=numbers(known.seeds, "--seeds"),
        metric=known.metric,
        retrain=[] if known.retrain is None else numbers(known.retrain, "--retrain"),
    )
    with (
        join_processes(timeout=parse_timeout(known.timeout)) as world,
        closing(Sweep(known.out, config, started, world)) as sweep,
    ):
        say = note if world.is_main else lambda _: None
        try:
            results = sweep.run(say)
            figures = sweep.retrained(say) if config.retrain else {}
        except Interrupted as stop:
            say(f"{stop}; the same command goes on with the sweep")
            raise SystemExit(128 + stop.signum) from None
        command = sweep.best_command()
    if not world.is_main:
        return
    if known.json:
        rows = [
            {"trial": r.number, "settings": r.settings, "mean": r.mean, "std": spread(r.values), "failure": r.failure}
            for r in results
        ]
        print_json(
            {"sweep": str(known.out), "metric": config.metric, "trials": rows, "best": command, "retrained": figures}
        )
        return
    show(results, config, figures, command)


def show(results: list[Result], config: SweepConfig, figures: dict[str, list[float]], command: str | None) -> None:
    """Prints the table, why trials failed, what trains the best, and how the final runs did."""
    Console(highlight=False).print(table(results, config))
    for result in results:
        if result.failure:
            print(printable(f"trial {result.number:03} failed: {result.failure}"))
    if command:
        print(printable(f"the best, trained by: {command}"))
    if figures:
        print(f"on all training images, with seeds {', '.join(map(str, config.retrain))}, mean ± standard deviation:")
    for name, values in figures.items():
        print(f"  {name} {statistics.fmean(values):.4f}" + (f" ± {spread(values):.4f}" if len(values) > 1 else ""))


def table(results: list[Result], config: SweepConfig) -> Table:
    """One row a combination, the best first."""
    several = len(config.seeds) > 1
    drawn = Table("trial")
    for key in config.keys:
        drawn.add_column(key.replace(".", ".\n"), overflow="fold")
    for name in (config.metric, *(("±",) if several else ())):
        drawn.add_column(name, justify="right", no_wrap=True)
    for result in results:
        mean, deviation = ("failed", "") if result.failure else result.cells
        cells = [Text(printable(short(result.settings[key]))) for key in config.keys]
        drawn.add_row(f"{result.number:03}", *cells, mean, *((deviation,) if several else ()))
    return drawn


def by_key(pairs: Iterable[tuple[str, T]]) -> dict[str, T]:
    """What is tried of each key, which is named once."""
    found: dict[str, T] = {}
    for key, tried in pairs:
        if key in found:
            raise UserError(f"{key} is named twice: give all that is to be tried of it at once")
        found[key] = tried
    return found


def listed(text: str) -> tuple[str, list[str]]:
    """`KEY=V1,V2`."""
    key, _, words = text.partition("=")
    values = words.split(",")
    if not key or not all(values) or len(set(values)) < len(values):
        raise UserError(f"--grid takes KEY=V1,V2 such as optim.lr=0.001,0.003, each value once, not {text}")
    return key.removeprefix("--"), values


def ranged(text: str) -> tuple[str, Range]:
    """`KEY=LOW:HIGH`, and `:log` where the logarithm is drawn; whole numbers where both are written so."""
    key, _, values = text.partition("=")
    words = values.split(":")
    log = words[2:] == ["log"]
    try:
        low, high = (int(word) if all(map(str.isdecimal, words[:2])) else float(word) for word in words[:2])
        if not key or len(words) > 2 + log or not -math.inf < low < high < math.inf or (log and low <= 0):
            raise ValueError
    except ValueError:
        raise UserError(f"--search takes KEY=LOW:HIGH or KEY=LOW:HIGH:log, not {text}") from None
    return key.removeprefix("--"), (low, high, log)


def numbers(text: str, option: str) -> list[int]:
    """`0,1,2`."""
    try:
        found = [int(word) for word in text.split(",")]
        if len(set(found)) < len(found):
            raise ValueError
    except ValueError:
        raise UserError(f"{option} takes seeds, each once, such as 0,1,2, not {text or 'nothing'}") from None
    return found
