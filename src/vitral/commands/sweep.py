"""`vitral sweep`: many runs of a recipe with other settings."""

import argparse
import math
import statistics
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vitral.commands.output import note, print_json
from vitral.commands.train import started
from vitral.studies.sweep import Result, Sweep, SweepConfig
from vitral.train.interrupts import Interrupted

__all__ = ["main"]

USAGE = """usage: vitral sweep RECIPE --out DIR --grid KEY=V1,V2 [--grid ...] [--KEY VALUE ...]
       vitral sweep RECIPE --out DIR --search KEY=LOW:HIGH[:log] [--search ...] --trials N [--KEY VALUE ...]
       (and [--seeds S1,S2] [--metric val/top1] [--retrain] [--json])

Trains a recipe with every combination of a grid, or with settings that optuna searches (whole numbers where
LOW and HIGH are written as such, fractions for 0.0:1.0), each in a folder of its own in DIR, and lists them
by a figure of held-out images, the best first. The same command goes on with a sweep that was stopped, from
the checkpoint of the run under way. --retrain then trains the best with all training images for each seed
and gives mean and deviation of its final figures: with the rates of the paper's Table 4, its fine-tuning
protocol:

  vitral sweep paper-pets --out sweeps/pets --model.weights B_16.npz --data.root pets --data.val-share 0.1 \\
      --grid optim.lr=0.001,0.003,0.01,0.03 --seeds 0,1,2 --retrain"""


def main(arguments: list[str]) -> None:
    """Runs the sweep and prints its table; with `--json`, one object."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        raise SystemExit(0 if arguments else 2)
    parser = argparse.ArgumentParser(prog="vitral sweep", usage=argparse.SUPPRESS, add_help=False, allow_abbrev=False)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--grid", action="append", default=[])
    parser.add_argument("--search", action="append", default=[])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--metric", default="val/top1")
    parser.add_argument("--retrain", action="store_true")
    parser.add_argument("--json", action="store_true")
    known, rest = parser.parse_known_args(arguments)
    if known.out is None:
        raise ValueError("a sweep needs --out DIR, the folder of its runs; the same folder goes on with it")
    config = SweepConfig(
        recipe=rest,
        grid=dict(map(listed, known.grid)),
        search=dict(map(ranged, known.search)),
        trials=known.trials,
        seeds=numbers(known.seeds),
        metric=known.metric,
    )
    sweep = Sweep(known.out, config, started)
    try:
        results = sweep.run(note)
        figures = sweep.retrained(note) if known.retrain else {}
    except Interrupted as stop:
        note(f"{stop}; the same command goes on with the sweep")
        raise SystemExit(128 + stop.signum) from None
    if known.json:
        rows = [{"settings": r.settings, "mean": r.mean, "spread": r.spread, "failure": r.failure} for r in results]
        command = sweep.best_command()
        print_json(
            {"sweep": str(known.out), "metric": config.metric, "trials": rows, "best": command, "retrained": figures}
        )
        return
    Console(highlight=False).print(table(results, config))
    if command := sweep.best_command():
        print(f"the best, trained by: {command}")
    for name, values in figures.items():
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"{name} {statistics.fmean(values):.4f} ± {spread:.4f} over {len(values)} seeds, retrained")


def table(results: list[Result], config: SweepConfig) -> Table:
    """One row a combination, the best first."""
    keys = list(config.grid or config.search)
    drawn = Table(*keys)
    for name in (config.metric, "±", "seeds"):
        drawn.add_column(name, justify="right")
    for result in results:
        cells = [f"{float(result.settings[key]):.3g}" if config.search else result.settings[key] for key in keys]
        if result.failure:
            drawn.add_row(*cells, result.failure, "", "")
        else:
            drawn.add_row(*cells, f"{result.mean:.4f}", f"{result.spread:.4f}", str(len(result.values)))
    return drawn


def listed(text: str) -> tuple[str, list[str]]:
    """`KEY=V1,V2`."""
    key, _, values = text.partition("=")
    if not key or not values or not all(values.split(",")):
        raise ValueError(f"--grid takes KEY=V1,V2 such as optim.lr=0.001,0.003, not {text}")
    return key.removeprefix("--"), values.split(",")


def ranged(text: str) -> tuple[str, tuple[int, int, bool] | tuple[float, float, bool]]:
    """`KEY=LOW:HIGH`, and `:log` where the logarithm is drawn; whole numbers where both are written so."""
    key, _, values = text.partition("=")
    words = values.split(":")
    log = words[2:] == ["log"]
    try:
        low, high = (int(word) if all(map(str.isdecimal, words[:2])) else float(word) for word in words[:2])
        if not key or len(words) > 2 + log or not low < high < math.inf or (log and low <= 0):
            raise ValueError
    except ValueError:
        raise ValueError(f"--search takes KEY=LOW:HIGH or KEY=LOW:HIGH:log, not {text}") from None
    return key.removeprefix("--"), (low, high, log)


def numbers(text: str) -> list[int]:
    """`0,1,2`."""
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(f"--seeds takes whole numbers such as 0,1,2, not {text}") from None
