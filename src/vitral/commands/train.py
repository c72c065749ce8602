"""`vitral train`: trains a model from a recipe, or resumes a run."""

import argparse
import shlex
import sys
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from vitral.commands.arguments.flags import parse_config, pop_option
from vitral.commands.arguments.recipe_help import asks_help, recipe_help
from vitral.commands.arguments.train import check_recipe
from vitral.commands.output import print_json
from vitral.commands.own_images import (
    choose_by_images,
    fit_to_machine,
    flags_of_fit,
    pop_automatic_batch,
    pop_minutes,
)
from vitral.device import pick_device, share_heap
from vitral.distributed.world import World, join_processes
from vitral.errors import UserError
from vitral.models import architecture
from vitral.objectives.classification import ClassificationConfig
from vitral.recipes import RECIPES
from vitral.recipes.recipe import Recipe
from vitral.runs.assessment import load_assessment
from vitral.runs.run import Run
from vitral.train.config import RunConfig, read_run_config
from vitral.train.duration import parse_timeout
from vitral.train.fit import fit
from vitral.train.interrupts import Interrupted
from vitral.train.targets import with_data
from vitral.weights.address import to_address
from vitral.weights.load import stores_architecture

__all__ = ["config_from_recipe", "main"]

READING = ("checkpoint_key", "prefix", "num_heads", "gelu")
"""Fields of `--model` that say how the weights of another project are read."""


def main(options: argparse.Namespace) -> None:
    """Trains, and prints where the model is; with `--json`, one object with the run's folder and final metrics."""
    with join_processes(timeout=parse_timeout(options.timeout)) as world:
        run, config = resolve_run(options.changes, resume=options.resume, or_resume=options.or_resume, world=world)
        with closing(run):
            metrics = train_run(run, config, world, strict=options.strict_resume)
    if not world.is_main:
        return
    if options.json:
        assessment = load_assessment(run.path)
        compared = {"assessment": asdict(assessment)} if assessment else {}
        print_json({"run": str(run.path), **metrics, **compared})
    else:
        print(f"model, metrics and report are in {run.path}\nnext: vitral {next_command(run, config)}")


def next_command(run: Run, config: RunConfig) -> str:
    """A command to continue with after a finished run."""
    folder = shlex.quote(str(run.path))
    if config.objective.evaluate_by != "labels":
        return f"train finetune --data.root FOLDER --model.weights {folder}"
    has_attention = getattr(config.model.architecture, "attention", None) == "global"
    drawn = has_attention and not config.preprocessing.keeps_aspect
    return f"{'inspect' if drawn else 'eval'} {folder}"


def resolve_run(changes: list[str], *, resume: Path | None, or_resume: bool, world: World) -> tuple[Run, RunConfig]:
    """A new run or an existing one, with its configuration; the main process creates the folder."""
    if or_resume:
        out = pop_option(changes, "--out")[0]
        if out is None or resume:
            raise UserError("--or-resume needs RECIPE and --out DIR, the folder to start or to resume")
        if world.run_on_main(lambda: (Path(out) / "run.json").is_file()):
            resume, changes = Path(out), pop_option(pop_minutes(changes[1:])[1], "--model.name")[1]
    minutes, changes = pop_minutes(changes)
    automatic, changes = (False, changes) if resume else pop_automatic_batch(changes)
    if resume:
        if minutes is not None:
            raise UserError("a run keeps its length when it resumes: leave out --minutes, or give --train.steps")
        return resume_run(resume, changes)
    config = config_from_recipe(changes)
    given = tuple(changes)
    fitted = world.run_on_main(lambda: fit_to_machine(config, given, minutes, automatic=automatic, world=world))
    command = ("vitral", "train", *changes, *flags_of_fit(config, fitted))  # the same command again trains the same
    config = replace(fitted, command=(shlex.join(command),))
    return Run(world.run_on_main(lambda: Run.create(config.out, recipe=config.recipe).path)), config


def train_run(run: Run, config: RunConfig, world: World, *, strict: bool) -> dict[str, float]:
    """Trains to the end and returns the final metrics; a run that stops early prints how to resume it."""
    how = f"resume it with: vitral train --resume {shlex.quote(str(run.path))}"
    share_heap()  # each checkpoint is written by new threads
    try:
        return fit(run, config, world, strict=strict)
    except Interrupted as stop:
        if world.is_main:
            print(f"{stop}; {'the run is finished' if stop.finished else how}", file=sys.stderr)
        raise SystemExit(128 + stop.signum) from None
    except (UserError, OSError):
        if world.is_main and run.started and any(run.checkpoints_path.glob("step_*")):
            print(f"the run is saved; {how}", file=sys.stderr)
        raise


def config_from_recipe(arguments: list[str], command: str = "train") -> RunConfig:
    """The configuration of a new run; `--help` and `--help-all` print and exit.

    Args:
        arguments: the recipe's name, then the flags that change its configuration.
        command: that takes them: `train`, `sweep` or `plan`.

    Raises:
        UserError: there is no such recipe, or a flag is unknown or its value wrong.
    """
    check_recipe(arguments)
    name, *changes = arguments
    recipe, program = RECIPES[name], f"vitral {command} {name}"
    if recipe.takes == "weights":
        default = with_weights(name, recipe, changes)
    elif recipe.takes == "model":
        model, changes = pop_option(changes, "--model.name", program)
        default = recipe(model) if model else recipe()
    else:
        default = recipe()
    default, changes = replace_model(default, changes)
    if {"-h", "--help"} & set(changes):
        print(recipe_help(default, command=command, name=name))
        raise SystemExit(0)
    default = with_target(default, changes, program)
    default = with_channels(default, changes, program)
    if pop_option(arguments, "--model.name", program)[0] is None:
        default = choose_by_images(default, changes, program)
    return parse_config(RunConfig, default=default, arguments=changes, program=program)


def replace_model(config: RunConfig, changes: list[str]) -> tuple[RunConfig, list[str]]:
    """The configuration with the model of `--model.name`, if that is given, and the other flags."""
    name, rest = pop_option(changes, "--model.name")
    if name is None:
        return config, changes
    old = config.model.architecture
    new = architecture(name, image_size=old.image_size, channels=old.channels)
    return replace(config, model=replace(config.model, architecture=new)), rest


def with_channels(config: RunConfig, changes: list[str], program: str) -> RunConfig:
    """The configuration without the recipe's mean and deviation, which are of pictures, if there is --data.channels."""
    channels, _ = pop_option(changes, "--data.channels", program)
    if channels is None or not channels.isdigit():
        return config
    return replace(config, preprocessing=config.preprocessing.with_bands(int(channels)))


def with_target(config: RunConfig, changes: list[str], program: str) -> RunConfig:
    """The configuration with the objective of --data.target, if that is given and the recipe learns classes.

    Raises:
        UserError: the recipe has another objective.
    """
    target, _ = pop_option(changes, "--data.target", program)
    if target not in ("multi-label", "regression"):  # the default, or a value that parsing refuses
        return config
    if not isinstance(config.objective, ClassificationConfig):
        raise UserError(
            f"the recipe {config.recipe} does not learn --data.target {target}: choose folder, finetune, or another "
            "recipe that learns classes"
        )
    for option in ("--augment.mixup", "--augment.cutmix"):
        if pop_option(changes, option, program)[0] not in (None, "0"):
            raise UserError(f"{option} mixes two classes, and --data.target is {target}: leave it out")
    source = pop_option(changes, "--data.source", program)[0] or config.data.source
    return with_data(config, replace(config.data, source=source, target=target))


def with_weights(name: str, recipe: Recipe, changes: list[str]) -> RunConfig:
    """The configuration of a recipe for the weights of `--model.weights`, whose architecture becomes the recipe's.

    Without them, `finetune` takes a published checkpoint.

    Raises:
        UserError: the weights are missing, or cannot be read.
    """
    program = f"vitral train {name}"
    weights, _ = pop_option(changes, "--model.weights", program)
    if weights:
        path = Path(to_address(weights))
        return recipe(path, **reading_options(path, changes, program))
    if asks_help(changes):
        return recipe(None)
    if name != "finetune":
        raise UserError("fine-tuning needs a trained model: give its folder with --model.weights")
    chosen = "ViT-B/16@augreg-in21k" if pick_device("auto").type != "cpu" else "ViT-S/16@augreg-in21k"
    print(f"no --model.weights: fine-tuning {chosen}; vitral models --pretrained lists others", file=sys.stderr)
    try:
        return recipe(Path(to_address(chosen)))
    except UserError as error:
        raise UserError(f"{error} with --model.weights; or train from scratch with vitral train folder") from None


def reading_options(weights: Path, changes: list[str], program: str) -> dict[str, Any]:
    """How the weights are read: what the flags say of a file, and of what another project's file does not store.

    Raises:
        UserError: the weights do not exist, or the number of heads is no number.
    """
    options = {name: pop_option(changes, f"--model.{name.replace('_', '-')}", program)[0] for name in READING}
    options = {name: value for name, value in options.items() if value is not None}
    if not options:
        return {}
    if stores_architecture(weights):
        return {name: value for name, value in options.items() if name in ("checkpoint_key", "prefix")}
    if (heads := options.get("num_heads")) is not None:
        if not heads.isdecimal() or int(heads) < 1:
            raise UserError(f"--model.num-heads must be a number of attention heads such as 12, not {heads!r}")
        return {**options, "num_heads": int(heads)}
    return options


def resume_run(folder: Path, changes: list[str]) -> tuple[Run, RunConfig]:
    """An existing run, and its saved configuration with the changes of the flags."""
    run = Run.open(folder)
    saved = replace(read_run_config(run), out=folder)
    if {"-h", "--help"} & set(changes):
        print(recipe_help(saved, command="train"))
        raise SystemExit(0)
    config = parse_config(RunConfig, default=saved, arguments=changes, program=f"vitral train --resume {folder}")
    if config.out != folder:
        raise UserError(f"a run is resumed in its own folder, {folder}: leave out --out, or start a new run")
    if changes:
        command = shlex.join(("vitral", "train", "--resume", str(folder), *changes))
        config = replace(config, command=(*saved.command, command))
    return run, config
