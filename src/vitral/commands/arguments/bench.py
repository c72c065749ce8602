"""Arguments of `vitral bench`."""

import argparse
import math
from pathlib import Path

from vitral.commands.arguments.checks import check_output, image_size, token_merging
from vitral.commands.arguments.flags import ArgumentParser
from vitral.commands.arguments.predict import DEVICE_HELP, PRECISION_HELP
from vitral.commands.arguments.weights import add_source_options, source_options
from vitral.errors import UserError

__all__ = ["parse"]

DESCRIPTION = """Measure speed and memory: images per second, the latency of a call (median, 95th and 99th percentile)
and the peak memory, at batches of 1 up to the fastest. A call takes uint8 images in memory and ends with logits in
memory. All contenders take turns in one process, so that other load slows them alike; the report says how much there
was."""


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments.

    Raises:
        UserError: a number is out of range, or a file of `--out` cannot be written.
    """
    parser = ArgumentParser(prog="vitral bench", description=DESCRIPTION)
    parser.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="a model's name such as ViT-S/16, a published checkpoint's, the folder of a trained model, an exported "
        "file, another library's file, or hf-hub:OWNER/NAME",
    )
    parser.add_argument(
        "--peers", action="store_true", help="also measure timm, transformers and torchvision with the same weights"
    )
    parser.add_argument("--train", action="store_true", help="measure training steps: forward, backward, AdamW")
    parser.add_argument(
        "--batch-size",
        type=int,
        nargs="+",
        metavar="N",
        help="images per call (default: 1, 2, 4 and so on, until more images are no faster)",
    )
    parser.add_argument(
        "--seconds", type=float, default=40.0, metavar="N", help="time to measure, without loading (default: 40)"
    )
    parser.add_argument("--device", default="auto", help=DEVICE_HELP)
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"), help=PRECISION_HELP)
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="also measure with torch.compile, which takes a minute a model (default: on a GPU)",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: as PyTorch chooses)")
    parser.add_argument("--image-size", metavar="PIXELS", help="height and width of images, if not the model's own")
    parser.add_argument(
        "--token-merging",
        metavar="N",
        help="also measure with N pairs of similar patches merged in every block (ToMe)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--out",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="write a table (.md, .csv), all facts (.json) or a plot (.png); repeat it for several files",
    )
    add_source_options(parser)
    options = parser.parse_args(arguments)
    source_options(options)
    options.image_size = image_size(options.image_size)
    options.token_merging = token_merging(options.token_merging)
    check_numbers(options)
    for path in options.out:
        check_output(path, suffixes=(".md", ".csv", ".json", ".png"))
    return options


def check_numbers(options: argparse.Namespace) -> None:
    """Checks ranges.

    Raises:
        UserError: a number is out of range.
    """
    if (smallest := min(options.batch_size or [1])) < 1:
        raise UserError(f"--batch-size must be at least 1, not {smallest}")
    if not (math.isfinite(options.seconds) and options.seconds > 0):
        raise UserError(f"--seconds must be above 0, not {options.seconds:g}")
    if options.token_merging is not None and options.train:
        raise UserError("--token-merging is for predictions: leave out --train, or --token-merging")
    if options.threads is not None and options.threads < 1:
        raise UserError(f"--threads must be at least 1, not {options.threads}")
