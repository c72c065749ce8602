"""Arguments of `vitral export`."""

import argparse
import math
from pathlib import Path

from vitral.commands.arguments.checks import TOKEN_MERGING_HELP, check_model, image_size, token_merging
from vitral.commands.arguments.flags import ArgumentParser
from vitral.commands.arguments.formats import EXPORTED_BESIDE, EXPORTS
from vitral.commands.arguments.weights import add_source_options
from vitral.errors import UserError, unknown_name

__all__ = ["parse"]


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments.

    Raises:
        UserError: there is no such backend or model, or the destination exists or has another ending.
    """
    parser = ArgumentParser(
        prog="vitral export",
        description="Write a trained model as one file that runs without Vitral, and compare the file with the model "
        "on real images. The report is printed, and written beside the file. Exit code 1: they differ too much.",
    )
    parser.add_argument(
        "model", metavar="MODEL", help="folder of a trained model, another library's file, or hf-hub:OWNER/NAME"
    )
    endings = ", ".join(f"{ending} for {name}" for name, ending in EXPORTS.items())
    parser.add_argument("destination", type=Path, metavar="DST", help=f"a new file: {endings}")
    parser.add_argument("--to", metavar="BACKEND", help=f"one of {', '.join(EXPORTS)} (default: by DST's ending)")
    parser.add_argument(
        "--precision",
        choices=("float32", "float16", "int8"),
        help="numbers to compute with (default: float32; for html above 30 MB, int8)",
    )
    parser.add_argument(
        "--image-size",
        default="fixed",
        metavar="fixed|dynamic|PIXELS",
        help="fixed: the model's own (default); dynamic: any that whole patches fill; a number: only that, positions "
        "are interpolated once",
    )
    parser.add_argument("--token-merging", metavar="N", help=TOKEN_MERGING_HELP)
    parser.add_argument(
        "--with-preprocessing", action="store_true", help="take uint8 pixels of any size: resize and normalise them"
    )
    parser.add_argument(
        "--aot",
        action="store_true",
        help="for torch: machine code for this machine's kind of CPU, by AOTInductor; needs a C++ compiler",
    )
    images = "images to compare (default: the run's test images, or photographs)"
    parser.add_argument("--images", type=Path, metavar="FOLDER", help=images)
    parser.add_argument(
        "--max-images", type=int, default=1000, metavar="N", help="compare at most N images (default: 1000)"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="PERCENT",
        help="smallest share of images with the same class (default: 99, for int8 97)",
    )
    runtime = "for html: folder of onnxruntime-web (default: VITRAL_ONNXRUNTIME_WEB, or npm downloads it once)"
    parser.add_argument("--runtime", type=Path, metavar="FOLDER", help=runtime)
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    add_source_options(parser)
    options = parser.parse_args(arguments)
    check_values(options)
    check_model(options.model)
    if options.images is not None and not options.images.is_dir():
        raise UserError(f"{options.images} is not a folder: name a folder of images with --images")
    return options


def check_values(options: argparse.Namespace) -> None:
    """Completes and checks the options; raises UserError for a value that does not fit."""
    suffixes = {ending: name for name, ending in EXPORTS.items()}
    destination = options.destination
    if options.to is None:
        options.to = suffixes.get(destination.suffix.lower())
        if options.to is None:
            raise UserError(f"{destination} has no known suffix: choose a backend with --to: {', '.join(EXPORTS)}")
    if options.to not in EXPORTS:
        raise unknown_name("backend", options.to, EXPORTS)
    if destination.suffix.lower() != EXPORTS[options.to]:
        raise UserError(
            f"a file for --to {options.to} ends in {EXPORTS[options.to]}: call it {destination.stem}"
            f"{EXPORTS[options.to]}, not {destination.name}"
        )
    for ending in (destination.suffix, *EXPORTED_BESIDE.get(options.to, ())):
        if (path := destination.with_suffix(ending)).exists():
            raise UserError(f"{path} exists: give another file, or remove it first")
    if not destination.parent.is_dir():
        raise UserError(f"{destination.parent} does not exist: make the folder, or name a file in another one")
    options.pixels = None
    if options.image_size not in ("fixed", "dynamic"):
        if not options.image_size.isdecimal():
            raise UserError(f"--image-size must be fixed, dynamic or a number of pixels, not {options.image_size!r}")
        options.pixels, options.image_size = image_size(options.image_size), "fixed"
    options.token_merging = token_merging(options.token_merging)
    if options.token_merging is not None and options.image_size == "dynamic":
        raise UserError("--token-merging counts the patches of one image size: leave out --image-size dynamic")
    if options.token_merging is not None and options.to == "html":
        raise UserError("a page draws the attention of every patch: leave out --token-merging")
    if options.max_images < 1:
        raise UserError(f"--max-images must be at least 1, not {options.max_images}")
    if options.tolerance is not None and not (math.isfinite(options.tolerance) and 0 <= options.tolerance <= 100):
        raise UserError(f"--tolerance must be a percentage from 0 to 100, not {options.tolerance}")
