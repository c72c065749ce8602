"""Arguments of `vitral models`."""

import argparse
from pathlib import Path

from vitral.commands.arguments.flags import ArgumentParser
from vitral.errors import UserError
from vitral.weights.address import HUB_PREFIX
from vitral.weights.pretrained import find_pretrained

__all__ = ["parse"]


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments.

    Raises:
        UserError: a number is not positive, or the name is a trained model's.
    """
    parser = ArgumentParser(
        prog="vitral models",
        description="List the models with their size and cost. Any size combines with any patch that divides the "
        "image: ViT-B/14 is a model too. With NAME, show one model in detail; Google's and timm's names work too.",
    )
    parser.add_argument("model", nargs="?", metavar="NAME", help="one model, such as ViT-B/16 or vit_base_patch16_224")
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="height and width of images (default: 224)")
    parser.add_argument("--classes", type=int, default=1000, metavar="N", help="classes of the head (default: 1000)")
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="add the memory of the activations of N images in training"
    )
    parser.add_argument(
        "--pretrained",
        action="store_true",
        help="list published checkpoints, with NAME those of one model",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    for option in ("image_size", "classes", "batch_size"):
        if (value := getattr(options, option)) is not None and value < 1:
            raise UserError(f"--{option.replace('_', '-')} must be at least 1, not {value}")
    model = options.model
    if model and (model.startswith(HUB_PREFIX) or Path(model).exists() or find_pretrained(model) is not None):
        raise UserError(
            f"{model} is a trained model, and vitral models shows architectures by name: vitral predict, eval "
            "and inspect take it"
        )
    return options
