"""`vitral train`: a new run from a recipe, or an old one resumed."""

import argparse
import shlex
import sys
from contextlib import closing
from dataclasses import replace
from functools import partial
from inspect import signature
from pathlib import Path

from vitral.commands.output import parsed_by_tyro, print_json, split_off
from vitral.distributed.world import World, join_processes
from vitral.errors import UserError
from vitral.models import architecture
from vitral.recipes import RECIPES
from vitral.train.config import RunConfig
from vitral.train.duration import parse_timeout
from vitral.train.fit import fit
from vitral.train.interrupts import Interrupted
from vitral.train.run import Run

__all__ = ["main"]

USAGE = """usage: vitral train RECIPE [--out DIR [--or-resume]] [--seed N] [--model.name NAME] [--KEY VALUE ...]
       vitral train --resume DIR [--KEY VALUE ...]
       torchrun --nproc-per-node GPUS -m vitral train RECIPE --out DIR [--timeout 10min] [--KEY VALUE ...]

(each with --json: one JSON object on standard output)

Trains a model and leaves it in DIR (by default the next free runs/RECIPE-N), with its record,
curves and checkpoints. Ctrl-C saves; --resume goes on exactly where the run stood. --model.name takes
another model than the recipe's, such as R50+ViT-B/16 or BiT-R50x1, for images of the recipe's size;
vitral models lists them. With --or-resume the same command begins a run, and goes on with it when it is
started again. Several processes share each batch: --train.batch-size is always that of all together.

recipes:
{recipes}

vitral train RECIPE --help lists every key of a recipe with its value, such as
  vitral train digits --optim.lr 1e-3 --train.steps 300 --checkpoint.every 20steps"""


def main(arguments: list[str]) -> None:
    """Trains, and prints where the model is; with `--json`, one object with the run's folder and final figures."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE.format(recipes="\n".join(f"  {name}" for name in RECIPES)))
        raise SystemExit(0 if arguments else 2)
    own = argparse.ArgumentParser(prog="vitral train", usage=argparse.SUPPRESS, add_help=False, allow_abbrev=False)
    own.add_argument("--json", action="store_true")
    own.add_argument("--resume", type=Path, metavar="RUN")
    own.add_argument("--or-resume", action="store_true")
    own.add_argument("--timeout", default="10min")
    known, rest = own.parse_known_args(arguments)
    with join_processes(timeout=parse_timeout(known.timeout)) as world:
        run, config = opened(rest, resume=known.resume, or_resume=known.or_resume, world=world)
        with closing(run):
            figures = trained(run, config, world)
    if not world.is_main:
        return
    if known.json:
        print_json({"run": str(run.path), **figures})
    else:
        print(f"model, record and report are in {run.path}\nnext: vitral {following(run, config)}")


def following(run: Run, config: RunConfig) -> str:
    """What one may want to do with a finished run."""
    folder = shlex.quote(str(run.path))
    if config.objective.evaluate_by != "labels":
        return f"train finetune --data.root FOLDER --model.weights {folder}"
    look = "inspect" if getattr(config.model.architecture, "attention", None) == "global" else "eval"
    return f"{look} {folder}"


def opened(changes: list[str], *, resume: Path | None, or_resume: bool, world: World) -> tuple[Run, RunConfig]:
    """A new run or an old one, as the command says; the first process decides and makes the folder."""
    if or_resume:
        out = split_off(changes, "--out")[0]
        if out is None or resume:
            raise UserError("--or-resume goes with RECIPE and --out DIR, the folder to begin or to go on with")
        if world.run_on_main(lambda: (Path(out) / "run.json").is_file()):
            resume, changes = Path(out), split_off(changes[1:], "--model.name")[1]
    if resume:
        return resumed(resume, changes)
    config = replace(started(changes), command=(shlex.join(("vitral", "train", *changes)),))
    return Run(world.run_on_main(lambda: Run.create(config).path)), config


def trained(run: Run, config: RunConfig, world: World) -> dict[str, float]:
    """Trains to the end; a run that stops early and can be resumed says how."""
    go_on = f"go on with: vitral train --resume {shlex.quote(str(run.path))}"
    try:
        return fit(run, config, world)
    except Interrupted as stop:
        if world.is_main:
            print(f"{stop}; {'the run is finished' if stop.finished else go_on}", file=sys.stderr)
        raise SystemExit(128 + stop.signum) from None
    except (UserError, OSError):
        if world.is_main and run.begun and any(run.checkpoints_path.glob("step_*")):
            print(f"the run is saved; {go_on}", file=sys.stderr)
        raise


def started(arguments: list[str]) -> RunConfig:
    """The configuration of a new run, from a recipe's name and changes to it."""
    recipe, *changes = arguments or [""]
    if recipe not in RECIPES:
        raise UserError(f"{recipe!r} is no recipe: after train comes one of {', '.join(RECIPES)}, or --resume RUN")
    build = RECIPES[recipe]
    if "weights" in signature(build).parameters:
        build = partial(build, weights_among(changes))
    if "model" in signature(build).parameters:
        name, changes = split_off(changes, "--model.name")
        build = partial(build, name) if name else build
    default, changes = with_named_model(build(), changes)
    return parsed_by_tyro(RunConfig, default=default, arguments=changes, program=f"vitral train {recipe}")


def with_named_model(config: RunConfig, changes: list[str]) -> tuple[RunConfig, list[str]]:
    """The recipe with the model after `--model.name`, if there is one, and the other changes."""
    name, rest = split_off(changes, "--model.name")
    if name is None:
        return config, changes
    images = config.model.architecture
    named = architecture(name, image_size=images.image_size, channels=images.channels)
    return replace(config, model=replace(config.model, architecture=named)), rest


def weights_among(changes: list[str]) -> Path | None:
    """The folder after `--model.weights`, whose architecture becomes the recipe's; None only where help is asked."""
    weights, _ = split_off(changes, "--model.weights", "vitral train finetune")
    if weights is None and not {"-h", "--help"} & set(changes):
        raise UserError("fine-tuning starts from a trained model: name its folder with --model.weights")
    return Path(weights) if weights else None


def resumed(folder: Path, changes: list[str]) -> tuple[Run, RunConfig]:
    """An old run, its saved configuration changed where asked."""
    run, saved = Run.open(folder)
    saved = replace(saved, out=folder)
    config = parsed_by_tyro(RunConfig, default=saved, arguments=changes, program=f"vitral train --resume {folder}")
    if config.out != folder:
        raise UserError(f"a run goes on in its own folder, {folder}: leave out --out, or start a new run")
    if changes:
        again = shlex.join(("vitral", "train", "--resume", str(folder), *changes))
        config = replace(config, command=(*saved.command, again))
    return run, config
