"""Arguments of `vitral inspect`."""

import argparse
from pathlib import Path

from vitral.commands.arguments.checks import check_model, model_path
from vitral.commands.arguments.flags import ArgumentParser
from vitral.commands.arguments.weights import add_source_options
from vitral.errors import UserError

__all__ = ["MAX_IMAGES", "parse"]

MAX_IMAGES = 32
"""Rows of one picture."""


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments.

    Raises:
        UserError: a number is out of range, or the model does not exist.
    """
    parser = ArgumentParser(
        prog="vitral inspect",
        description="Draw the attention of a trained model: each image with the attention rollout laid over it, and "
        "the attention of single layers.",
    )
    parser.add_argument(
        "run",
        type=model_path,
        metavar="RUN",
        help="folder of a trained model, another library's file, or hf-hub:OWNER/NAME",
    )
    parser.add_argument(
        "images",
        nargs="*",
        default=[],
        metavar="IMAGE",
        help=f"image files and folders; the first {MAX_IMAGES} images are drawn (default: held-out images of the run)",
    )
    parser.add_argument("--count", type=int, default=4, metavar="N", help="number of held-out images (default: 4)")
    parser.add_argument("--seed", type=int, default=0, help="random seed that selects held-out images (default: 0)")
    parser.add_argument("--out", type=Path, metavar="FILE.png", help="the picture (default: attention.png in RUN)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_source_options(parser)
    options = parser.parse_args(arguments)
    if not 1 <= options.count <= MAX_IMAGES:
        raise UserError(f"--count must be between 1 and {MAX_IMAGES} images, not {options.count}")
    if options.seed < 0:
        raise UserError(f"--seed must be at least 0, not {options.seed}")
    check_model(options.run)
    return options
