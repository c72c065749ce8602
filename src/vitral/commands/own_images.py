"""What `vitral train` chooses for one's own images: the model by the images, and the length by `--minutes`."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vitral.commands.arguments.flags import parse_config, pop_option
from vitral.commands.arguments.recipe_help import asks_help
from vitral.commands.output import note
from vitral.data.sources.source import Source
from vitral.datasets.opening import open_data
from vitral.device import pick_device
from vitral.distributed.world import World
from vitral.errors import UserError
from vitral.recipes.own_images import DESK_IMAGES, DESK_OBJECTIVES, choose, survey
from vitral.train.budget import MAX_EPOCHS, Budget, measure_budget
from vitral.train.channels import measure_channels
from vitral.train.config import RunConfig
from vitral.train.memory import with_parts_that_fit

__all__ = [
    "choose_by_images",
    "default_minutes",
    "fit_to_machine",
    "flags_of_fit",
    "pop_automatic_batch",
    "pop_minutes",
]

RECIPES = ("folder", *DESK_OBJECTIVES)
"""Recipes that choose by the images."""

DEFAULT_MINUTES = 10.0
"""Length of such a run, unless steps or epochs are given."""

LENGTHS = ("--train.steps", "--train.epochs")


def pop_minutes(changes: list[str]) -> tuple[float | None, list[str]]:
    """The value of `--minutes`, and the other flags.

    Raises:
        UserError: it is no number above 0, or another length is given too.
    """
    text, rest = pop_option(changes, "--minutes")
    if text is None:
        return None, rest
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not 0 < minutes < math.inf:
        raise UserError(f"--minutes must be a number above 0, not {text}")
    if given := next((name for name in LENGTHS if pop_option(rest, name)[0] is not None), None):
        raise UserError(f"--minutes and {given} both set the length: leave one of them out")
    return minutes, rest


def choose_by_images(config: RunConfig, changes: list[str], program: str) -> RunConfig:
    """A recipe's configuration with what it chooses by the images, if it chooses; the flags are applied later.

    Raises:
        UserError: a flag is wrong, or the images cannot be opened.
    """
    root = pop_option(changes, "--data.root", program)[0]
    if config.recipe not in RECIPES or root is None or asks_help(changes):
        return config
    wanted = parse_config(RunConfig, default=config, arguments=changes, program=program)
    return choose(replace(config, preprocessing=wanted.preprocessing), open_data(wanted.data))


def pop_automatic_batch(changes: list[str]) -> tuple[bool, list[str]]:
    """Whether `--train.batch-size auto` is given, and the flags without it."""
    value, rest = pop_option(changes, "--train.batch-size")
    return (True, rest) if value == "auto" else (False, changes)


def fit_to_machine(
    config: RunConfig, changes: Sequence[str], minutes: float | None, *, automatic: bool, world: World
) -> RunConfig:
    """The configuration with a batch that fits into memory, if that is `automatic`, and steps that fit into minutes.

    Args:
        config: with all flags applied.
        changes: the flags.
        minutes: the value of `--minutes`; None chooses for recipes on one's own images, unless a length is given.
        automatic: whether the batch is split into parts that fit.
        world: the processes of the run.

    Raises:
        UserError: the run does not fit, or the data cannot be trained on.
    """
    if automatic:
        config = with_parts_that_fit(config, world)
        size, parts = config.train.batch_size, config.train.accumulate
        note(f"batches of {size} images in {parts} parts, which changes the result by rounding only")
    return fit_to_minutes(config, minutes, changes, world)


def flags_of_fit(config: RunConfig, fitted: RunConfig) -> list[str]:
    """The flags of what `fit_to_machine` changed."""
    flags = []
    for name in ("accumulate", "evaluate", "steps"):
        if (value := getattr(fitted.train, name)) != getattr(config.train, name):
            flags += [f"--train.{name}", str(value)]
    return flags


def fit_to_minutes(config: RunConfig, minutes: float | None, changes: Sequence[str], world: World) -> RunConfig:
    """The configuration with the number of steps that fit into the minutes, which is measured; prints both.

    Args:
        config: with all flags applied.
        minutes: the value of `--minutes`; None chooses for recipes on one's own images, unless a length is given.
        changes: the flags.
        world: the processes of the run.

    Raises:
        UserError: the run has several processes, or the data cannot be trained on.
    """
    if minutes is None and world.size == 1:
        minutes = default_minutes(config, changes)
    if minutes is None:
        return config
    if world.size > 1:
        raise UserError("--minutes measures one process: with several, give --train.epochs")
    data = open_data(config.data)
    config, sentences = measure_channels(config, data["train"], world)
    for sentence in sentences:
        note(sentence)
    note(f"measuring how fast this machine trains on {survey(data).describe()}")
    measured = measure_budget(config, data, minutes=minutes)
    budget = measured.limited(minutes)
    steps = budget.steps(minutes)
    for line in announcement(config, data, budget, steps=steps, minutes=minutes):
        note(line)
    train = replace(config.train, steps=steps)
    if budget.evaluations < measured.evaluations:
        train = replace(train, evaluate=f"{math.ceil(100 / (budget.evaluations + 1))}percent")
    return replace(config, train=train)


def default_minutes(config: RunConfig, changes: Sequence[str]) -> float | None:
    """Minutes of a run whose length the flags leave open; None if the recipe has its own length."""
    desk = config.recipe == "folder" or config.objective == DESK_OBJECTIVES.get(config.recipe)
    given = any(pop_option(list(changes), name)[0] is not None for name in LENGTHS)
    return DEFAULT_MINUTES if desk and not given else None


def announcement(
    config: RunConfig, data: Mapping[str, Source], budget: Budget, *, steps: int, minutes: float
) -> list[str]:
    """What was chosen, why, how long it takes, and what to give for better."""
    architecture, device = config.model.architecture, pick_device(config.train.device)
    h, w = architecture.image_hw
    crops = "crops" if config.augment.crop != "none" else "shifts, rotations and scales"
    flips = "with flips" if config.augment.flip else "without flips, as mirror images look like other classes"
    cores = f" with {len(os.sched_getaffinity(0))} cores" if device.type == "cpu" else ""
    epochs, seconds = steps / budget.steps_per_epoch, budget.seconds(steps)
    # a whole number of minutes would be off by up to a quarter
    took = f"{seconds / 60:.{int(seconds < 600)}f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"
    size = "their own aspect ratio" if config.preprocessing.keeps_aspect else f"{h}x{w} pixels"
    lines = [
        f"chosen: images at {size}, batches of {config.train.batch_size}, on {device}{cores}",
        *([f"augmentation: {crops}, {flips}"] if config.recipe == "folder" else []),
        f"length: {steps:,} steps, {epochs:,.3g} passes over the images, at {budget.step:.3g} seconds a step: "
        f"about {took}",
    ]
    if epochs < 1:
        lines.append(f"warning: {minutes:g} minutes are not enough for one pass over the images: give more --minutes")
    elif epochs < MAX_EPOCHS - 1:
        lines.append(f"for better results: --minutes {6 * minutes:g}, or --train.epochs N")
    if config.recipe in DESK_OBJECTIVES:
        lines.append(
            f"settings for fewer than {DESK_IMAGES:,} images on one machine; --model.name ViT-B/16 takes the paper's"
        )
    return lines
