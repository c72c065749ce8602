"""`vitral plan`: estimates time and memory of a training run."""

import argparse
from dataclasses import asdict
from math import ceil
from typing import Any

from rich.console import Console
from rich.table import Table

from vitral.commands.models import gigabytes
from vitral.commands.output import print_fitting, print_json
from vitral.commands.plan_text import duration, energy
from vitral.inspection.cost import Cost, activation_memory, cost
from vitral.inspection.devices import DATA, DEVICES
from vitral.inspection.plan import (
    PAPER_CORE_DAYS,
    USABLE,
    Footprint,
    core_days,
    exaflops,
    footprint,
    throughput,
)
from vitral.inspection.scaling import EFFICIENCY, PER_NODE, StepTime, all_reduce_seconds, bus, step_time
from vitral.models import Architecture, architecture

__all__ = ["main", "rounded"]


def main(options: argparse.Namespace) -> None:
    """Prints operations, time, memory and energy of a run; with `--json`, one object."""
    if options.changes is not None:
        from vitral.commands.recipe_plan import plan_recipe  # imports all that trains

        plan_recipe(options)
        return
    size = {} if options.image_size is None else {"image_size": options.image_size}
    plan = planned(architecture(options.model, num_classes=options.classes, **size), options)
    print_json(plan) if options.json else print_plan(plan, options)


def planned(config: Architecture, options: argparse.Namespace) -> dict[str, Any]:
    """All estimates, by name."""
    counts, device = cost(config), DEVICES[options.device]
    images = DATA.get(options.data) or int(options.data)
    total = exaflops(counts.macs, images=images * options.epochs)
    rate = options.images_per_second or throughput(
        counts.macs, device=device, devices=options.devices, utilisation=options.mfu
    )
    useful = rate * 3 * 2 * counts.macs / (options.devices * device.flops)
    hours = images * options.epochs / rate / 3600
    paper = PAPER_CORE_DAYS.get((options.model, options.data, round(options.epochs)))
    return {
        "model": options.model,
        **asdict(counts),
        "images": images,
        "epochs": options.epochs,
        "steps": ceil(images * options.epochs / options.batch_size),
        "exaflops": total,
        "device": device.name,
        "devices": options.devices,
        "mfu": useful,
        "images_per_second": rate,
        "hours": hours,
        "kwh": hours * options.devices * device.watts / 1000,
        "tpuv3_core_days": core_days(total, utilisation=useful),
        "tpuv3_core_days_of_the_paper": paper,
        "tpuv3_mfu_of_the_paper": paper and core_days(total, utilisation=1.0) / paper,
        "memory": [asdict(one) for one in footprints(config, options)],
        "scaling": [
            {
                "devices": devices,
                **asdict(step),
                "images_per_second": options.batch_size / step.total,
                "bound": step.bound,
            }
            for devices, step in scaling(counts, rate / options.devices, options).items()
        ],
    }


def scaling(counts: Cost, rate: float, options: argparse.Namespace) -> dict[int, StepTime]:
    """A step of the same batch on 8 to 1,024 devices that it divides over; empty if the device's links are unknown.

    Args:
        counts: of the model.
        rate: images per second of one device.
        options: of the command.
    """
    steps = {}
    for devices in (8, 16, 32, 64, 128, 256, 512, 1024):
        bandwidth = bus(DEVICES[options.device], devices)
        if bandwidth is not None and options.batch_size % devices == 0:
            images, gradients = options.batch_size // devices, 4 * counts.parameters
            steps[devices] = step_time(
                compute=images / rate,
                exchange=all_reduce_seconds(gradients, devices=devices, bandwidth=bandwidth),
                gradients=gradients,
                reading=images / options.images_read if options.images_read else 0.0,
            )
    return steps


def footprints(config: Architecture, options: argparse.Namespace) -> list[Footprint]:
    """Memory of one device: with replicated and sharded state, with stored and recomputed activations."""
    counts = cost(config)
    rows = []
    for recompute in (False, True):
        memory = activation_memory(config, bfloat16=options.precision == "bfloat16", recompute=recompute)
        for shards in sorted({1, options.devices}):
            state = "sharded state (FSDP)" if shards > 1 else "replicated state"
            rows.append(
                footprint(
                    f"{state}, {'recomputed' if recompute else 'stored'} activations",
                    cost=counts,
                    memory=memory,
                    batch_size=options.batch_size // options.devices,
                    device=DEVICES[options.device],
                    shards=shards,
                    average=options.ema,
                )
            )
    return rows


def print_plan(plan: dict[str, Any], options: argparse.Namespace) -> None:
    """Prints the plan with every assumption."""
    console = Console(highlight=False)
    facts = Table(
        show_header=False, box=None, title=f"{plan['model']} on {plan['images']:,} images", title_justify="left"
    )
    facts.add_row("model", f"{plan['parameters']:,} parameters, {plan['macs'] / 1e9:,.2f} GMACs per image")
    facts.add_row("run", f"{plan['epochs']:g} epochs, {plan['steps']:,} steps of {options.batch_size} images")
    facts.add_row("operations", f"{rounded(plan['exaflops'])} exaFLOPs")
    facts.add_row("devices", f"{plan['devices']} x {plan['device']}")
    origin = "measured" if options.images_per_second else "assumed"
    facts.add_row("speed", f"{plan['images_per_second']:,.0f} images/s, {plan['mfu']:.0%} of the peak ({origin})")
    facts.add_row("time", duration(plan["hours"]))
    facts.add_row("energy", f"{energy(plan['kwh'])} at the power of the data sheet")
    facts.add_row("on TPUs", f"{rounded(plan['tpuv3_core_days'])} TPUv3-core-days at the same fraction of their peak")
    if plan["tpuv3_core_days_of_the_paper"]:
        facts.add_row(
            "the paper",
            f"{plan['tpuv3_core_days_of_the_paper']:,} core-days: {plan['tpuv3_mfu_of_the_paper']:.0%} of the peak",
        )
    console.print(facts)
    memory = Table("memory per device", box=None, title_justify="left", pad_edge=True)
    for column in ("state", "activations", "fits", "largest batch"):
        memory.add_column(column, justify="right")
    for one in plan["memory"]:
        fits = "yes" if one["fits"] else "no"
        largest = f"{one['largest_batch']:,} images"
        memory.add_row(one["name"], gigabytes(one["state"]), gigabytes(one["activations"]), fits, largest)
    print_fitting(console, memory)
    print_scaling(console, plan)
    if not any(one["largest_batch"] for one in plan["memory"]):
        console.print("Not even one image fits: use larger devices, or more of them.")
    elif not any(one["fits"] for one in plan["memory"]):
        console.print("The batch does not fit: use more devices, or split it with --train.accumulate.")
    console.print(
        f"Assumed: a backward pass costs two forward passes; weights, gradients and Adam's moments "
        f"{'and the moving average ' if options.ema else ''}take 4 bytes per parameter each; {options.precision} "
        f"activations; {USABLE:.0%} of a device's memory is usable; evaluation takes no time, and "
        f"{'reading neither' if options.images_read is None else 'reading as --images-read says'}.",
        style="dim",
    )


def print_scaling(console: Console, plan: dict[str, Any]) -> None:
    """Prints a line for each number of devices."""
    if not plan["scaling"]:
        return
    table = Table("devices", title="the same batch on more devices", box=None, title_justify="left", pad_edge=True)
    for column in ("ms a step", "gradients, ms", "images/s", "of ideal", "time", "bound by"):
        table.add_column(column, justify="right")
    for one in plan["scaling"]:
        hours = plan["images"] * plan["epochs"] / one["images_per_second"] / 3600
        cells = (1000 * one["total"], 1000 * one["exchange"], one["images_per_second"])
        table.add_row(
            f"{one['devices']:,}",
            *(f"{cell:,.1f}" for cell in cells[:2]),
            f"{cells[2]:,.0f}",
            f"{one['compute'] / one['total']:.0%}",
            duration(hours),
            one["bound"],
        )
    print_fitting(console, table)
    console.print(
        f"Assumed of more devices: {PER_NODE} in a node; DDP exchanges float32 gradients during the backward pass, at "
        f"{EFFICIENCY:.0%} of the speed of NVLink and of a DGX system's network; small batches are as fast as large.",
        style="dim",
    )


def rounded(number: float) -> str:
    """Three significant digits, or an integer from 100 on."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
