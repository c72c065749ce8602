"""`vitral models`: the models by name and size."""

import argparse
from typing import Any

from rich.console import Console
from rich.table import Table

from vitral.commands.output import print_json
from vitral.models import architecture
from vitral.weights.folder import blank_model

__all__ = ["NAMES", "main"]

NAMES = (
    "ViT-mu/16",
    "ViT-Ti/16",
    "ViT-S/32",
    "ViT-S/16",
    "ViT-M/16",
    "ViT-B/32",
    "ViT-B/16",
    "ViT-B/8",
    "ViT-L/32",
    "ViT-L/16",
    "ViT-So400m/14",
    "ViT-H/14",
    "ViT-g/14",
    "ViT-G/14",
    "ViT-e/14",
)
"""Sizes with the patches they are usually met with."""


def main(arguments: list[str]) -> None:
    """Prints a table of models; with `--json`, one object."""
    parser = argparse.ArgumentParser(
        prog="vitral models",
        description="Lists models by name and size, at 224 pixels with 1000 classes. Any size goes with any patch "
        "that divides the image: ViT-B/14 is a model too.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    models = [facts(name) for name in NAMES]
    if options.json:
        print_json({"models": models})
        return
    table = Table("model", title="at 224 pixels, 1000 classes", title_justify="left")
    for column in ("width", "depth", "heads", "MLP", "tokens", "parameters"):
        table.add_column(column, justify="right")
    for model in models:
        name, *numbers = model.values()
        table.add_row(name, *(f"{number:,}" for number in numbers))
    console = Console()
    console.print(table)
    console.print('In Python: vitral.create("ViT-B/16", num_classes=10)', highlight=False)


def facts(name: str) -> dict[str, Any]:
    """Shape and counts of one model; it is never given memory."""
    config = architecture(name)
    model = blank_model(config)
    return {
        "name": name,
        "width": config.width,
        "depth": config.depth,
        "heads": config.num_heads,
        "mlp_dim": config.mlp_dim,
        "tokens": model.pos_embed.shape[1],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
