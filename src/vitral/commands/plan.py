"""`vitral plan`: what a training run will take, before anything runs."""

import argparse
from dataclasses import asdict
from math import ceil, isfinite
from typing import Any

from rich.console import Console
from rich.table import Table

from vitral.commands.models import gigabytes
from vitral.commands.output import print_json
from vitral.errors import UserError
from vitral.inspection.cost import activation_memory, cost
from vitral.inspection.plan import (
    DATA,
    DEVICES,
    PAPER_CORE_DAYS,
    USABLE,
    Footprint,
    core_days,
    exaflops,
    footprint,
    throughput,
)
from vitral.models import Architecture, architecture

__all__ = ["main"]


def main(arguments: list[str]) -> None:
    """Prints arithmetic, time and memory of a run; with `--json`, one object."""
    options = parsed(arguments)
    check(options)
    size = {} if options.image_size is None else {"image_size": options.image_size}
    plan = planned(architecture(options.model, num_classes=options.classes, **size), options)
    print_json(plan) if options.json else print_plan(plan, options)


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="vitral plan", description="Tells what a training run will take: arithmetic, time, memory, and what fits."
    )
    parser.add_argument("model", metavar="MODEL", help="a model's name, as vitral models lists them")
    parser.add_argument("--data", default="imagenet1k", help=f"{', '.join(DATA)}, or a number of training images")
    parser.add_argument(
        "--epochs", type=float, default=90.0, metavar="N", help="times through the images (default: 90)"
    )
    parser.add_argument("--batch-size", type=int, default=1024, metavar="N", help="over all devices (default: 1024)")
    parser.add_argument("--device", default="h100", help=f"one of {', '.join(DEVICES)} (default: h100)")
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="how many (default: 1)")
    parser.add_argument(
        "--mfu", type=float, default=0.4, metavar="SHARE", help="share of the peak that is useful work (default: 0.4)"
    )
    parser.add_argument(
        "--images-per-second", type=float, metavar="N", help="measured over all devices; counts instead of --mfu"
    )
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="side of the images (default: 224)")
    parser.add_argument("--classes", type=int, default=1000, metavar="N", help="classes of the head (default: 1000)")
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--ema", action="store_true", help="keep a running average of the weights")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(arguments)


def check(options: argparse.Namespace) -> None:
    """Refuses what no run can have."""
    if options.device not in DEVICES:
        raise UserError(f"--device {options.device} is not known: choose one of {', '.join(DEVICES)}")
    if options.data not in DATA and not (options.data.isdigit() and int(options.data)):
        raise UserError(f"--data {options.data} is not known: name {', '.join(DATA)}, or a number of images above 0")
    if options.devices < 1 or options.batch_size < 1 or options.batch_size % options.devices:
        raise UserError(f"--batch-size must be a multiple of --devices, not {options.batch_size} and {options.devices}")
    for flag in ("epochs", "mfu", "images_per_second"):
        value = getattr(options, flag)
        if value is not None and not (isfinite(value) and value > 0):
            raise UserError(f"--{flag.replace('_', '-')} must be above 0, not {value}")
    if options.mfu > 1:
        raise UserError(f"--mfu is a share of the peak, so at most 1, not {options.mfu}")


def planned(config: Architecture, options: argparse.Namespace) -> dict[str, Any]:
    """Everything the command tells."""
    counts, device = cost(config), DEVICES[options.device]
    images = DATA.get(options.data) or int(options.data)
    total = exaflops(counts.macs, images=images * options.epochs)
    rate = options.images_per_second or throughput(
        counts.macs, device=device, devices=options.devices, utilisation=options.mfu
    )
    useful = rate * 3 * 2 * counts.macs / (options.devices * device.flops)
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
        "hours": images * options.epochs / rate / 3600,
        "tpuv3_core_days": core_days(total, utilisation=useful),
        "tpuv3_core_days_of_the_paper": paper,
        "tpuv3_mfu_of_the_paper": paper and core_days(total, utilisation=1.0) / paper,
        "memory": [asdict(one) for one in footprints(config, options)],
    }


def footprints(config: Architecture, options: argparse.Namespace) -> list[Footprint]:
    """A device's memory, with a copy of the state on each device or shared, activations kept or recomputed."""
    counts = cost(config)
    found = []
    for recompute in (False, True):
        memory = activation_memory(config, bfloat16=options.precision == "bfloat16", recompute=recompute)
        for shards in sorted({1, options.devices}):
            spread = "state shared (FSDP)" if shards > 1 else "state on each"
            found.append(
                footprint(
                    f"{spread}, {'recomputed' if recompute else 'kept'}",
                    cost=counts,
                    memory=memory,
                    batch_size=options.batch_size // options.devices,
                    device=DEVICES[options.device],
                    shards=shards,
                    average=options.ema,
                )
            )
    return found


def print_plan(plan: dict[str, Any], options: argparse.Namespace) -> None:
    """The plan for people, with every assumption."""
    console = Console(highlight=False)
    facts = Table(
        show_header=False, box=None, title=f"{plan['model']} on {plan['images']:,} images", title_justify="left"
    )
    facts.add_row("model", f"{plan['parameters']:,} parameters, {plan['macs'] / 1e9:,.2f} GMACs an image")
    facts.add_row("run", f"{plan['epochs']:g} epochs, {plan['steps']:,} steps of {options.batch_size} images")
    facts.add_row("arithmetic", f"{rounded(plan['exaflops'])} exaFLOPs")
    facts.add_row("devices", f"{plan['devices']} x {plan['device']}")
    told = "measured" if options.images_per_second else "assumed"
    facts.add_row("speed", f"{plan['images_per_second']:,.0f} images/s, {plan['mfu']:.0%} of the peak ({told})")
    facts.add_row("time", duration(plan["hours"]))
    facts.add_row("on TPUs", f"{rounded(plan['tpuv3_core_days'])} TPUv3-core-days at the same share of their peak")
    if plan["tpuv3_core_days_of_the_paper"]:
        facts.add_row(
            "the paper",
            f"{plan['tpuv3_core_days_of_the_paper']:,} core-days: {plan['tpuv3_mfu_of_the_paper']:.0%} of the peak",
        )
    console.print(facts)
    memory = Table("memory of a device", box=None, title_justify="left", pad_edge=True)
    for column in ("state", "activations", "fits", "at most"):
        memory.add_column(column, justify="right")
    for one in plan["memory"]:
        fits = "yes" if one["fits"] else "no"
        largest = f"{one['largest_batch']:,} images"
        memory.add_row(one["name"], gigabytes(one["state"]), gigabytes(one["activations"]), fits, largest)
    console.print(memory)
    if not any(one["largest_batch"] for one in plan["memory"]):
        console.print("Not even one image fits: take larger devices, or more of them.")
    elif not any(one["fits"] for one in plan["memory"]):
        console.print("The batch does not fit: take more devices, or split it with --train.accumulate.")
    console.print(
        f"Assumed: a backward pass costs two forward passes; weights, gradients and Adam's moments "
        f"{'and the running average ' if options.ema else ''}take 4 bytes a parameter each; {options.precision} "
        f"activations; {USABLE:.0%} of a device's memory can be used; evaluation and data cost no time.",
        style="dim",
    )


def rounded(number: float) -> str:
    """Three digits, or all before the point."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def duration(hours: float) -> str:
    """Hours as people speak of them."""
    if hours < 1:
        return f"{hours * 60:.0f} minutes"
    return f"{hours:,.1f} hours" if hours < 72 else f"{hours / 24:,.1f} days"
