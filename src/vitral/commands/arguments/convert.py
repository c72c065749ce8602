"""Arguments of `vitral convert`."""

import argparse
from pathlib import Path

from vitral.commands.arguments.checks import check_model, image_size
from vitral.commands.arguments.flags import ArgumentParser
from vitral.commands.arguments.formats import FORMATS, check_format
from vitral.commands.arguments.weights import add_source_options
from vitral.errors import UserError

__all__ = ["parse"]


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments.

    Raises:
        UserError: there is no such format or source, or the destination exists.
    """
    parser = ArgumentParser(
        prog="vitral convert",
        description="Convert weights between formats. The source's format is recognised from its content. The result "
        "is checked: the upstream library loads it if it is installed, else Vitral, and its outputs are compared with "
        "the source's.",
    )
    parser.add_argument("source", metavar="SRC", help="a file, a folder, or hf-hub:OWNER/NAME")
    parser.add_argument(
        "destination",
        type=Path,
        metavar="DST",
        help="a new file; a new folder for vitral, and for timm, transformers and dinov2 if the name has no suffix",
    )
    parser.add_argument("--to", required=True, metavar="FORMAT", help=f"one of {', '.join(FORMATS)}")
    parser.add_argument(
        "--image-size",
        metavar="PIXELS",
        help="height and width of images, if the source does not store it or the result should differ",
    )
    parser.add_argument("--allow-missing", action="store_true", help="allow missing and unexpected tensors")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_source_options(parser)
    options = parser.parse_args(arguments)
    options.image_size = image_size(options.image_size)
    check_format(options.to, FORMATS)
    check_model(options.source)
    if options.destination.exists():
        raise UserError(f"{options.destination} exists: give another destination, or remove it first")
    return options
