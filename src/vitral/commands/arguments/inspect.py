"""Arguments of `vitral inspect`."""

import argparse
from pathlib import Path

from vitral.commands.arguments.checks import check_model, model_path
from vitral.commands.arguments.flags import ArgumentParser
from vitral.commands.arguments.weights import add_source_options
from vitral.errors import UserError

__all__ = ["FIGURES", "MAX_IMAGES", "parse"]

FIGURES = {
    "attention": "attention rollout over each image, and the attention of single layers",
    "rollout": "attention rollout over each image (Figures 6 and 14 of the paper)",
    "distance": "mean attention distance of every head, over 128 images (Figures 7 and 11)",
    "positions": "similarity of position embeddings (Figures 7 and 10)",
    "filters": "principal components of the patch embedding's filters (Figure 7)",
    "tokens": "principal components of patch tokens as colours, and the tokens' norms",
    "relevance": "gradient-weighted attention for the two most probable classes",
}
"""What `--figure` draws."""

MAX_IMAGES = 32
"""Rows of one picture."""


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments.

    Raises:
        UserError: a number is out of range, or the model does not exist.
    """
    parser = ArgumentParser(
        prog="vitral inspect",
        description="Draw what a trained model attends to and what it learned. The figures are: "
        + "; ".join(f"{name}: {text}" for name, text in FIGURES.items())
        + ".",
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
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--figure", choices=FIGURES, default="attention", metavar="NAME", help="what to draw (default: attention)"
    )
    kind.add_argument("--all", action="store_true", help="write all figures as one HTML page, or as one PDF")
    parser.add_argument(
        "--shared-scale",
        action="store_true",
        help="show all layers on one colour scale; a spike in one layer then makes the others dark",
    )
    parser.add_argument("--count", type=int, default=4, metavar="N", help="number of held-out images (default: 4)")
    parser.add_argument("--seed", type=int, default=0, help="random seed that selects held-out images (default: 0)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the picture: .png, .svg or .pdf; with --all .html or .pdf (default: FIGURE.png, or inspection.html, in "
        "RUN)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_source_options(parser)
    options = parser.parse_args(arguments)
    if not 1 <= options.count <= MAX_IMAGES:
        raise UserError(f"--count must be between 1 and {MAX_IMAGES} images, not {options.count}")
    if options.seed < 0:
        raise UserError(f"--seed must be at least 0, not {options.seed}")
    check_model(options.run)
    return options
