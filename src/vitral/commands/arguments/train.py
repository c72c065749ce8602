"""Arguments of `vitral train`."""

import argparse
from pathlib import Path
from textwrap import wrap

from vitral.commands.arguments.checks import check_model
from vitral.commands.arguments.flags import ArgumentParser, pop_option
from vitral.errors import UserError, unknown_name
from vitral.recipes import GROUPS, RECIPES

__all__ = ["check_recipe", "parse"]

USAGE = """usage: vitral train RECIPE [--out DIR [--or-resume]] [--minutes N] [--model.name NAME] [--KEY VALUE ...]
       vitral train --resume DIR [--strict-resume] [--KEY VALUE ...]
       torchrun --nproc-per-node GPUS -m vitral train RECIPE --out DIR [--timeout 10min] [--KEY VALUE ...]

(each with --json: one JSON object on standard output)

Train a model and write it to DIR (by default the next free runs/RECIPE-N), with its metrics, curves and checkpoints.
Ctrl-C saves a checkpoint; --resume continues from it, with the same result as an uninterrupted run.
--minutes N trains for about so long: it measures a few steps first, and keeps the number of steps in the run. For
folder, masked-patch, simmim, mae and dino on your own images, 10 minutes are the default.
--train.batch-size auto splits the batch of the recipe into as few parts as fit into memory (--train.accumulate).
--or-resume starts a run, or resumes it if DIR has one: so you can repeat the command.
--strict-resume refuses to resume where results would differ by rounding: on another device, with other threads.
--model.name replaces the recipe's model, with the recipe's image size: R50+ViT-B/16, BiT-R50x1 and others that
vitral models lists. Several processes split each batch: --train.batch-size is the size over all processes.

recipes:
{recipes}

vitral train RECIPE --help shows the keys that matter, --help-all every key of a recipe with its value, such as
  vitral train digits --optim.lr 1e-3 --train.steps 300 --checkpoint.every 20steps"""


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command's own options, and in `changes` the recipe's name and the flags of its configuration.

    Raises:
        UserError: there is no such recipe, run or file of weights.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE.format(recipes="\n".join(listed_recipes())))
        raise SystemExit(0 if arguments else 2)
    parser = ArgumentParser(prog="vitral train", usage=argparse.SUPPRESS, add_help=False, allow_abbrev=False)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--resume", type=Path, metavar="RUN")
    parser.add_argument("--or-resume", action="store_true")
    parser.add_argument("--strict-resume", action="store_true")
    parser.add_argument("--timeout", default="10min")
    options, options.changes = parser.parse_known_args(arguments)
    if options.resume is None:
        check_recipe(options.changes)
    elif not (options.resume / "run.json").is_file():
        raise UserError(f"{options.resume} has no run to resume: it has no run.json")
    return options


def listed_recipes() -> list[str]:
    """The names of the recipes by what they need."""
    return [
        line
        for group, names in GROUPS.items()
        for line in (f"  {group}:", *wrap(", ".join(names), 100, initial_indent="    ", subsequent_indent="    "))
    ]


def check_recipe(changes: list[str]) -> None:
    """Checks a recipe's name and the weights after it.

    Args:
        changes: the recipe's name and the flags of its configuration.

    Raises:
        UserError: there is no recipe, no such recipe, or no such file of weights.
    """
    if not changes or changes[0].startswith("-"):
        raise UserError("give a recipe before the flags; vitral recipes describes them")
    name, *flags = changes
    if name not in RECIPES:
        raise UserError(f"{unknown_name('recipe', name, RECIPES)}; vitral recipes describes them")
    if RECIPES[name].takes == "weights":
        weights, _ = pop_option(flags, "--model.weights", f"vitral train {name}")
        if weights:
            check_model(weights)
