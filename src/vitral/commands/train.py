"""`vitral train`: a new run from a recipe, or an old one resumed."""

import argparse
import shlex
import sys
from contextlib import closing
from dataclasses import replace
from functools import partial
from inspect import signature
from operator import attrgetter
from pathlib import Path

from vitral.commands.output import parsed_by_tyro, print_json
from vitral.models import architecture
from vitral.recipes import RECIPES
from vitral.train.config import RunConfig
from vitral.train.interrupts import Interrupted
from vitral.train.loop import fit
from vitral.train.run import Run

__all__ = ["main"]

USAGE = """usage: vitral train RECIPE [--out DIR] [--seed N] [--model.name NAME] [--KEY VALUE ...] [--json]
       vitral train --resume DIR [--KEY VALUE ...] [--json]

Trains a model and leaves it in DIR (by default the next free runs/RECIPE-N), with its record,
curves and checkpoints. Ctrl-C saves; --resume goes on exactly where the run stood. --model.name takes
another model than the recipe's, such as R50+ViT-B/16 or BiT-R50x1, for images of the recipe's size;
vitral models lists them.

recipes:
{recipes}

vitral train RECIPE --help lists every key of a recipe with its value, such as
  vitral train digits --optim.lr 1e-3 --train.steps 300 --checkpoint.every 20steps"""

FIXED = (
    *("recipe", "out", "seed", "model"),
    *(f"data.{name}" for name in ("source", "root", "held_out", "split_seed", "class_names")),
)
"""What a resumed run cannot change: it would be another run."""


def main(arguments: list[str]) -> None:
    """Trains, and prints where the model is; with `--json`, one object with the run's folder and final figures."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE.format(recipes="\n".join(f"  {name}" for name in RECIPES)))
        raise SystemExit(0 if arguments else 2)
    own = argparse.ArgumentParser(prog="vitral train", usage=argparse.SUPPRESS, add_help=False, allow_abbrev=False)
    own.add_argument("--json", action="store_true")
    own.add_argument("--resume", type=Path, metavar="RUN")
    known, rest = own.parse_known_args(arguments)
    run, config = resumed(known.resume, rest) if known.resume else started(rest)
    with closing(run):
        figures = trained(run, config)
    if known.json:
        print_json({"run": str(run.path), **figures})
    else:
        look = "inspect" if getattr(config.model.architecture, "attention", None) == "global" else "eval"
        print(f"model, record and curves are in {run.path}\nnext: vitral {look} {shlex.quote(str(run.path))}")


def trained(run: Run, config: RunConfig) -> dict[str, float]:
    """Trains to the end; a run that stops early and can be resumed says how."""
    go_on = f"go on with: vitral train --resume {shlex.quote(str(run.path))}"
    try:
        return fit(run, config)
    except Interrupted as stop:
        print(f"{stop}; {'the run is finished' if stop.finished else go_on}", file=sys.stderr)
        raise SystemExit(128 + stop.signum) from None
    except (ValueError, OSError):
        if run.begun and any(run.checkpoints_path.glob("step_*.pt")):
            print(f"the run is saved; {go_on}", file=sys.stderr)
        raise


def started(arguments: list[str]) -> tuple[Run, RunConfig]:
    """A new run from a recipe's name and changes to it."""
    recipe, *changes = arguments or [""]
    if recipe not in RECIPES:
        raise ValueError(f"{recipe!r} is no recipe: after train comes one of {', '.join(RECIPES)}, or --resume RUN")
    build = RECIPES[recipe]
    if "weights" in signature(build).parameters:
        build = partial(build, weights_among(changes))
    default, changes = with_named_model(build(), changes)
    config = parsed_by_tyro(RunConfig, default=default, arguments=changes, program=f"vitral train {recipe}")
    return Run.create(config), config


def with_named_model(config: RunConfig, changes: list[str]) -> tuple[RunConfig, list[str]]:
    """The recipe with the model after `--model.name`, if there is one, and the other changes."""
    parser = argparse.ArgumentParser(prog="vitral train", usage=argparse.SUPPRESS, add_help=False, allow_abbrev=False)
    parser.add_argument("--model.name", dest="name")
    known, rest = parser.parse_known_args(changes)
    if known.name is None:
        return config, changes
    images = config.model.architecture
    named = architecture(known.name, image_size=images.image_size, channels=images.channels)
    return replace(config, model=replace(config.model, architecture=named)), rest


def weights_among(changes: list[str]) -> Path | None:
    """The folder after `--model.weights`, whose architecture becomes the recipe's; None only where help is asked."""
    parser = argparse.ArgumentParser(
        prog="vitral train finetune", usage=argparse.SUPPRESS, add_help=False, allow_abbrev=False
    )
    parser.add_argument("--model.weights", dest="weights", type=Path)
    parser.add_argument("-h", "--help", action="store_true")
    known, _ = parser.parse_known_args(changes)
    if known.weights is None and not known.help:
        raise ValueError("fine-tuning starts from a trained model: name its folder with --model.weights")
    return known.weights


def resumed(folder: Path, changes: list[str]) -> tuple[Run, RunConfig]:
    """An old run, its saved configuration changed where asked."""
    run, saved = Run.open(folder)
    saved = replace(saved, out=folder)
    config = parsed_by_tyro(RunConfig, default=saved, arguments=changes, program=f"vitral train --resume {folder}")
    for name in FIXED:
        if attrgetter(name)(config) != attrgetter(name)(saved):
            raise ValueError(f"{name} cannot change when a run is resumed: leave it out, or start a new run")
    return run, config
