"""`vitral plan RECIPE`: time, memory and energy of a recipe on one's own images, here and on named hardware."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from rich.console import Console
from rich.table import Table

from vitral.commands.models import gigabytes
from vitral.commands.output import note, print_json, printable
from vitral.commands.own_images import default_minutes, pop_automatic_batch, pop_minutes
from vitral.commands.plan_text import duration, energy
from vitral.commands.train import config_from_recipe
from vitral.data.sources.source import Source
from vitral.datasets.opening import open_data
from vitral.device import device_name, free_memory, pick_device
from vitral.distributed.world import SINGLE_PROCESS
from vitral.inspection.devices import DEVICES, Device
from vitral.inspection.energy import PowerMeter
from vitral.inspection.peak_memory import MemoryGrowth
from vitral.inspection.plan import USABLE, exaflops, throughput
from vitral.train.budget import measure_budget
from vitral.train.channels import measure_channels
from vitral.train.config import RunConfig
from vitral.train.memory import StepMemory, estimate_memory, images_worth, with_parts_that_fit
from vitral.train.plan import Plan
from vitral.train.resolution import mean_macs
from vitral.train.targets import fit_targets

__all__ = ["plan_recipe"]


@dataclass(frozen=True, kw_only=True)
class Here:
    """A run on this machine."""

    device: str
    fits: bool
    memory: int
    """Bytes of a training step, estimated."""
    free: int
    measured_memory: int | None
    """Bytes that the measured steps took; None if the system does not count them."""
    steps: int
    epochs: float
    seconds_per_step: float | None
    hours: float | None
    """None where it does not fit, so that it cannot be measured."""
    watts: float | None
    """Measured, or as given; None if unknown."""
    kwh: float | None


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """The same run on named hardware, by arithmetic."""

    device: str
    fits: bool
    memory: int
    largest_batch: int
    """Images of a part of a batch that fit."""
    hours: float
    kwh: float
    """At the power of the data sheet."""


def plan_recipe(options: argparse.Namespace) -> None:
    """Prints the plan; with `--json`, one object.

    Raises:
        UserError: a flag is wrong, or the data cannot be opened or read.
    """
    minutes, changes = pop_minutes(options.changes)
    automatic, changes = pop_automatic_batch(changes)
    config = config_from_recipe([options.model, *changes], "plan")
    if minutes is None:
        minutes = default_minutes(config, changes)
    if automatic:
        config = with_parts_that_fit(config, SINGLE_PROCESS)
    data = open_data(config.data)
    config, _ = measure_channels(config, data["train"], SINGLE_PROCESS)
    here = plan_here(config, data, minutes, watts=options.watts)
    devices = [DEVICES[options.device]] if options.device else list(DEVICES.values())
    macs = step_macs(resolved(config, data), steps=here.steps, samples=len(data["train"]))
    total = exaflops(macs, images=here.steps * config.train.batch_size)
    there = [plan_there(resolved(config, data), here.steps, device, macs=macs, mfu=options.mfu) for device in devices]
    if options.json:
        counts = {"recipe": config.recipe, "images": len(data["train"]), "batch_size": config.train.batch_size}
        print_json(
            counts
            | {
                "exaflops": total,
                "mfu": options.mfu,
                "this_machine": vars(here),
                "named_hardware": [vars(one) for one in there],
            }
        )
    else:
        print_plan(config, data, here, there, mfu=options.mfu, total=total)


def resolved(config: RunConfig, data: Mapping[str, Source]) -> RunConfig:
    """The configuration with what depends on the data."""
    return fit_targets(config.resolved(num_classes=len(data["train"].classes)), data["train"])[0]


def plan_here(config: RunConfig, data: Mapping[str, Source], minutes: float | None, *, watts: float | None) -> Here:
    """Measures a few steps and an evaluation, unless a step does not fit into memory."""
    device = pick_device(config.train.device)
    memory, free = estimate_memory(resolved(config, data), device=device), free_memory(device)
    needed, samples = memory.needed(config.train.accumulate), len(data["train"])
    steps = Plan.of(config, samples=samples).total
    seconds = step = measured = None
    if needed <= free:
        note(f"measuring how fast {device} trains")
        with PowerMeter(device) as meter, MemoryGrowth(device) as growth:
            budget = measure_budget(config, data, minutes=minutes or 0.0)
        if minutes is not None:
            budget = budget.limited(minutes)
            steps = budget.steps(minutes)
        step, seconds, measured = budget.step, budget.seconds(steps), growth.peak
        watts = meter.watts if watts is None else watts
    hours = None if seconds is None else seconds / 3600
    return Here(
        device=describe(device),
        fits=needed <= free,
        memory=needed,
        free=free,
        measured_memory=measured,
        steps=steps,
        epochs=steps * config.train.batch_size / samples,
        seconds_per_step=step,
        hours=hours,
        watts=watts,
        kwh=None if hours is None or watts is None else hours * watts / 1000,
    )


def step_macs(config: RunConfig, *, steps: int, samples: int) -> int:
    """Multiply-accumulates of one image's forward passes, the mean over the steps of a run."""
    plan = Plan.of(replace(config, train=replace(config.train, steps=steps)), samples=samples)
    macs = mean_macs(config.model.architecture, plan.stages)
    return round(macs * images_worth(config) * config.optim.passes)


def plan_there(config: RunConfig, steps: int, device: Device, *, macs: int, mfu: float) -> Elsewhere:
    """Time by the operations, memory by the estimate that training makes."""
    memory = estimate_memory(with_gpu(config), device=torch.device("cuda"))
    usable = int(USABLE * device.memory)
    rate = throughput(macs, device=device, devices=1, utilisation=mfu)
    hours = steps * config.train.batch_size / rate / 3600
    needed = memory.needed(config.train.accumulate)
    return Elsewhere(
        device=device.name,
        fits=needed <= usable,
        memory=needed,
        largest_batch=largest_part(memory, usable),
        hours=hours,
        kwh=hours * device.watts / 1000,
    )


def with_gpu(config: RunConfig) -> RunConfig:
    """The configuration with the precision that `auto` is on a GPU."""
    return replace(config, train=replace(config.train, device="cuda"))


def largest_part(memory: StepMemory, usable: int) -> int:
    """Images that fit at once, if the readers hold one batch of this size."""
    waiting = memory.waiting / memory.batch
    return max(0, int((usable - memory.fixed) / (memory.per_image + waiting)))


def describe(device: torch.device) -> str:
    """A device in words."""
    return f"CPU, {torch.get_num_threads()} threads" if device.type == "cpu" else device_name(device)


def print_plan(
    config: RunConfig, data: Mapping[str, Source], here: Here, there: list[Elsewhere], *, mfu: float, total: float
) -> None:
    """Prints the plan with every assumption; `total` is its operations in 10^18."""
    console = Console(highlight=False)
    parts = f" in {config.train.accumulate} parts" if config.train.accumulate > 1 else ""
    facts = Table(
        show_header=False,
        box=None,
        title=printable(f"{config.recipe} on {len(data['train']):,} training images"),
        title_justify="left",
    )
    facts.add_row("run", f"{here.steps:,} steps of {config.train.batch_size} images{parts}, {here.epochs:,.3g} epochs")
    if config.resolution.sizes:
        stages = zip(config.resolution.sizes, config.resolution.until, strict=True)
        facts.add_row("image size", ", ".join(f"{size} pixels to {end}" for size, end in stages) + ", then the model's")
    facts.add_row("operations", f"{total:,.3g} exaFLOPs")
    facts.add_row("this machine", printable(here.device))
    peak = "" if here.measured_memory is None else f"; {gigabytes(here.measured_memory)} measured"
    facts.add_row("memory", f"{gigabytes(here.memory)} estimated, {gigabytes(here.free)} free{peak}")
    if here.hours is None:
        facts.add_row(
            "time", "the run does not fit: --train.batch-size auto splits the batch, or choose a smaller model"
        )
    else:
        facts.add_row("time", f"{duration(here.hours)}, at {here.seconds_per_step:.3g} seconds a step (measured)")
    unknown = "unknown, as this system shows no power: give --watts"
    facts.add_row("energy", unknown if here.kwh is None else f"{energy(here.kwh)} at {here.watts:,.0f} W")
    console.print(facts)
    table = Table("named hardware", box=None, title_justify="left", pad_edge=True)
    for column in ("memory", "fits", "largest part", "time at best", "energy"):
        table.add_column(column, justify="right")
    for one in there:
        largest, fits = f"{one.largest_batch:,} images", "yes" if one.fits else "no"
        table.add_row(one.device, gigabytes(one.memory), fits, largest, duration(one.hours), energy(one.kwh))
    console.print(table)
    console.print(
        f"Assumed of named hardware: {mfu:.0%} of the peak (--mfu), which small models and small images do not reach; "
        f"the power of the data sheet; {USABLE:.0%} of the memory is usable; reading and evaluation take no time.",
        style="dim",
    )
