"""Arguments of `vitral plan`."""

import argparse
from difflib import get_close_matches
from math import isfinite

from vitral.commands.arguments.flags import ArgumentParser
from vitral.errors import UserError, did_you_mean, unknown_name
from vitral.inspection.devices import DATA, DEVICES
from vitral.recipes import RECIPES

__all__ = ["parse"]


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments.

    Raises:
        UserError: a name is unknown, or a number out of range.
    """
    if arguments and arguments[0] in RECIPES:
        return parse_recipe(arguments)
    parser = ArgumentParser(
        prog="vitral plan",
        usage="vitral plan MODEL [options]\n       vitral plan RECIPE [--data.root FOLDER] [--device NAME] [--mfu F] "
        "[--watts N] [--json] [--KEY VALUE ...]",
        description="Estimate a training run: FLOPs, time, memory, energy, and the largest batch that fits. With a "
        "recipe and the flags of vitral train, --minutes included, a few steps are measured on this machine; --device "
        "then chooses one named accelerator instead of all of them, and --watts states what this machine draws.",
    )
    parser.add_argument("model", metavar="MODEL", help="a model's name, as listed by vitral models")
    parser.add_argument("--data", default="imagenet1k", help=f"{', '.join(DATA)}, or a number of training images")
    parser.add_argument("--epochs", type=float, default=90.0, metavar="N", help="passes over the images (default: 90)")
    parser.add_argument("--batch-size", type=int, default=1024, metavar="N", help="over all devices (default: 1024)")
    parser.add_argument("--device", default="h100", help=f"one of {', '.join(DEVICES)} (default: h100)")
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="number of devices (default: 1)")
    parser.add_argument(
        "--mfu",
        type=float,
        default=0.4,
        metavar="FRACTION",
        help="model FLOPs utilisation, a fraction of the peak (default: 0.4)",
    )
    parser.add_argument(
        "--images-per-second", type=float, metavar="N", help="measured throughput of all devices; replaces --mfu"
    )
    parser.add_argument(
        "--images-read",
        type=float,
        metavar="N",
        help="images per second that the processes of one device read (default: no limit)",
    )
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="height and width of images (default: 224)")
    parser.add_argument("--classes", type=int, default=1000, metavar="N", help="classes of the head (default: 1000)")
    parser.add_argument(
        "--precision", choices=("bfloat16", "float32"), default="bfloat16", help="of training (default: bfloat16)"
    )
    parser.add_argument("--ema", action="store_true", help="count an exponential moving average of the weights")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if options.model in RECIPES:
        raise UserError(f"name the recipe first: vitral plan {options.model} ...")
    if close := get_close_matches(options.model, RECIPES, n=1, cutoff=0.7):
        raise UserError(f"unknown model or recipe {options.model!r} (did you mean {close[0]}?)")
    check(options)
    options.changes = None
    return options


def parse_recipe(arguments: list[str]) -> argparse.Namespace:
    """The options beside a recipe, and in `changes` the flags of its configuration.

    Raises:
        UserError: a name is unknown, or a number out of range.
    """
    name, *flags = arguments
    parser = ArgumentParser(prog="vitral plan", add_help=False, allow_abbrev=False)
    parser.add_argument("--device")
    parser.add_argument("--mfu", type=float, default=0.4)
    parser.add_argument("--watts", type=float)
    parser.add_argument("--json", action="store_true")
    options, options.changes = parser.parse_known_args(flags)
    options.model = name
    if options.device is not None and options.device not in DEVICES:
        raise unknown_name("--device", options.device, DEVICES)
    check_positive(options, "mfu", "watts")
    return options


def check(options: argparse.Namespace) -> None:
    """Checks names and ranges.

    Raises:
        UserError: a name is unknown, or a number out of range.
    """
    if options.device not in DEVICES:
        raise unknown_name("--device", options.device, DEVICES)
    if options.data not in DATA and not (options.data.isdigit() and int(options.data)):
        raise UserError(
            f"unknown --data {options.data!r}{did_you_mean(options.data, DATA)}: choose {', '.join(DATA)}, or give a "
            "number of images above 0"
        )
    if options.devices < 1 or options.batch_size < 1 or options.batch_size % options.devices:
        raise UserError(f"--batch-size must be a multiple of --devices, not {options.batch_size} and {options.devices}")
    check_positive(options, "epochs", "mfu", "images_per_second", "images_read")


def check_positive(options: argparse.Namespace, *flags: str) -> None:
    """Checks numbers, of which the fraction of the peak is at most 1. Raises UserError."""
    for flag in flags:
        value = getattr(options, flag)
        if value is not None and not (isfinite(value) and value > 0):
            raise UserError(f"--{flag.replace('_', '-')} must be above 0, not {value}")
    if options.mfu > 1:
        raise UserError(f"--mfu is a fraction of the peak, so at most 1, not {options.mfu}")
