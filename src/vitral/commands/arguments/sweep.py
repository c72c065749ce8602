"""Arguments of `vitral sweep`."""

import argparse
import math
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from vitral.commands.arguments.flags import ArgumentParser
from vitral.commands.arguments.train import check_recipe
from vitral.errors import UserError
from vitral.sweeps.config import Range, SweepConfig

__all__ = ["parse"]

USAGE = """usage: vitral sweep RECIPE --out DIR --grid KEY=V1,V2 [--grid ...] [--KEY VALUE ...]
       vitral sweep RECIPE --out DIR --search KEY=LOW:HIGH[:log] [--search ...] [--trials 20] [--KEY VALUE ...]
       vitral sweep RECIPE --out DIR --folds 5 [--grid ... | --search ...] [--KEY VALUE ...]
       (and [--retrain S1,S2] [--seeds 0] [--metric val/top1] [--json]; under torchrun also [--timeout 10min])

Train a recipe with every combination of a grid, or with settings that optuna samples, each in its own folder in DIR,
and list them by a metric of the validation images, the best first. --data.val-fraction holds validation images out of
the training images, unless the data has a validation split.

--grid            values of a key; several --grid try all combinations
--search          range of a key; integers if both limits are integers, such as model.depth=2:8
--folds K         cross-validation: divide the training images into K parts, with the same fraction of each class and in
                  whole groups, train every combination K times, each time with another part as validation images, and
                  compare the means; without --grid and --search, the recipe as it is
--trials N        number of combinations that --search tries (default: 20)
--seeds S1,S2     train every combination with each of these seeds, and compare the means
--retrain S1,S2   then train the best with each of these seeds on all images but the test images, and evaluate it there
--metric NAME     metric to compare (default: val/top1); higher is better, unless its name ends in loss or ece

The same command resumes a sweep that was stopped, from the last checkpoint; --trials may be raised, and --retrain
added. The fine-tuning protocol of the paper's Table 4, four runs with seed 0 to choose the learning rate and three
runs with the best:

  vitral sweep paper-pets --out sweeps/pets --model.weights B_16.npz --data.root pets --data.val-fraction 0.1 \\
      --grid optim.lr=0.001,0.003,0.01,0.03 --retrain 0,1,2"""

T = TypeVar("T")


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command's own options, and in `config` what the sweep tries.

    Raises:
        UserError: there is no such recipe, or an option is missing or wrong.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        raise SystemExit(0 if arguments else 2)
    parser = ArgumentParser(prog="vitral sweep", usage=argparse.SUPPRESS, add_help=False, allow_abbrev=False)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--grid", action="append", default=[])
    parser.add_argument("--search", action="append", default=[])
    parser.add_argument("--trials", type=int)
    parser.add_argument("--folds")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--retrain", nargs="?", const="")
    parser.add_argument("--metric", default="val/top1")
    parser.add_argument("--timeout", default="10min")
    parser.add_argument("--json", action="store_true")
    options, recipe = parser.parse_known_args(arguments)
    if options.out is None:
        raise UserError("a sweep needs --out DIR, the folder for its runs; repeat the command to resume it")
    options.config = SweepConfig(
        recipe=recipe,
        grid=by_key(map(grid_values, options.grid)),
        search=by_key(map(search_range, options.search)),
        trials=options.trials,
        seeds=integers(options.seeds, "--seeds"),
        folds=None if options.folds is None else number_of_folds(options.folds),
        metric=options.metric,
        retrain=[] if options.retrain is None else integers(options.retrain, "--retrain"),
    )
    check_recipe(recipe)
    return options


def by_key(pairs: Iterable[tuple[str, T]]) -> dict[str, T]:
    """Values or range by key.

    Raises:
        UserError: a key occurs twice.
    """
    result: dict[str, T] = {}
    for key, values in pairs:
        if key in result:
            raise UserError(f"{key} occurs twice: give all of its values at once")
        result[key] = values
    return result


def grid_values(text: str) -> tuple[str, list[str]]:
    """`KEY=V1,V2`."""
    key, _, rest = text.partition("=")
    values = rest.split(",")
    if not key or not all(values) or len(set(values)) < len(values):
        raise UserError(f"--grid takes KEY=V1,V2 such as optim.lr=0.001,0.003, each value once, not {text}")
    return key.removeprefix("--"), values


def search_range(text: str) -> tuple[str, Range]:
    """`KEY=LOW:HIGH` or `KEY=LOW:HIGH:log` for a logarithmic scale; integers if both limits are integers."""
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


def number_of_folds(text: str) -> int:
    """`5`."""
    if not text.isdecimal() or len(text) > 6:
        raise UserError(f"--folds takes the number of parts such as 5, not {text}")
    return int(text)


def integers(text: str, option: str) -> list[int]:
    """`0,1,2`."""
    try:
        seeds = [int(word) for word in text.split(",")]
        if len(set(seeds)) < len(seeds):
            raise ValueError
    except ValueError:
        raise UserError(f"{option} takes seeds, each once, such as 0,1,2, not {text or 'nothing'}") from None
    return seeds
