"""`vitral models`: lists the models by name, size and cost, or published checkpoints, or shows a model in detail."""

import argparse
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from vitral.commands.output import print_fitting, print_json
from vitral.config import to_dict
from vitral.errors import UserError, did_you_mean
from vitral.inspection.cost import activation_memory, cost
from vitral.models import NAMES, architecture, blank_model
from vitral.vit_config import ViTConfig
from vitral.weights.pretrained import Pretrained, list_pretrained

__all__ = ["gigabytes", "main"]


def main(options: argparse.Namespace) -> None:
    """Prints a table of models, of checkpoints, or of one model's parts; with `--json`, one object."""
    if options.pretrained:
        checkpoints = [
            entry for entry in list_pretrained().values() if options.model in (None, entry.name.split("@")[0])
        ]
        if not checkpoints:
            raise UserError(
                f"there are no published checkpoints of {options.model}{did_you_mean(options.model or '', NAMES)}: "
                "vitral models --pretrained lists all"
            )
        print_json({"checkpoints": list(map(asdict, checkpoints))}) if options.json else print_pretrained(checkpoints)
        return
    if options.model:
        model = details(options.model, options)
        print_json(model) if options.json else print_details(model)
        return
    models = [facts(name, options) for name in NAMES if fits(name, options)]
    if options.json:
        print_json({"models": models})
    else:
        print_table(models, options)


def finetune_config(name: str, options: argparse.Namespace) -> Any:
    """The model's configuration at `--image-size`."""
    size = {} if options.image_size is None else {"image_size": options.image_size}
    return architecture(name, num_classes=options.classes, **size)


def fits(name: str, options: argparse.Namespace) -> bool:
    """Whether a listed model's patches divide `--image-size`."""
    patch = getattr(architecture(name), "patch_size", 1)
    return (options.image_size or 224) % patch == 0


def facts(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Counts of one model, without allocating it."""
    config = finetune_config(name, options)
    counts = cost(config)
    shape = {key: getattr(config, key, None) for key in ("width", "depth", "num_heads", "mlp_dim")}
    row = {"name": name, **shape, **asdict(counts)}
    if options.batch_size:
        for label, bfloat16 in (("activation_bytes_float32", False), ("activation_bytes_bfloat16", True)):
            memory = activation_memory(config, bfloat16=bfloat16, recompute=False)
            row[label] = memory.of(options.batch_size)
    return row


def details(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Counts of one model, its parameters by part, and its configuration."""
    config = finetune_config(name, options)
    parts: dict[str, int] = {}
    for key, parameter in blank_model(config).named_parameters():
        part = key.split(".")[0]
        parts[part] = parts.get(part, 0) + parameter.numel()
    family = "vision transformer" if isinstance(config, ViTConfig) else "resnet"
    return {**facts(name, options), "family": family, "parts": parts, "architecture": to_dict(config)}


def print_table(models: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Prints one line for each model."""
    pixels = options.image_size or 224
    table = Table("model", title=f"at {pixels} pixels, {options.classes:,} classes", title_justify="left")
    memory = ("float32", "bfloat16") if options.batch_size else ()
    for column in ("width", "depth", "heads", "tokens", "parameters", "GMACs", *memory):
        table.add_column(column, justify="right")
    for model in models:
        numbers = (model[key] for key in ("width", "depth", "num_heads", "tokens"))
        table.add_row(
            model["name"],
            *("" if number is None else f"{number:,}" for number in numbers),
            f"{model['parameters']:,}",
            f"{model['macs'] / 1e9:.3f}" if model["macs"] < 1e10 else f"{model['macs'] / 1e9:.2f}",
            *(gigabytes(model[f"activation_bytes_{precision}"]) for precision in memory),
        )
    console = Console()
    print_fitting(console, table)
    if options.batch_size:
        console.print(f"float32, bfloat16: memory of the activations of {options.batch_size} images in training")
    console.print('In Python: vitral.create("ViT-B/16", num_classes=10)', highlight=False)


def print_pretrained(checkpoints: list[Pretrained]) -> None:
    """Prints one line for each checkpoint."""
    table = Table(
        Column("checkpoint", no_wrap=True),
        title="published checkpoints, downloaded from the Hub by name",
        title_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
    )
    for column in ("px", "classes", "size", "top-1"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("licence", overflow="fold")
    for entry in checkpoints:
        table.add_row(
            entry.name,
            str(entry.image_size),
            f"{entry.num_classes:,}" if entry.num_classes else "",
            gigabytes(entry.num_bytes),
            "" if entry.top1 is None else f"{entry.top1:.1f} %",
            entry.licence,
        )
    console = Console()
    print_fitting(console, table)
    console.print("Top-1 on ImageNet as timm measured it. No classes: features only.", highlight=False)
    console.print(f"vitral train finetune --data.root photos --model.weights {checkpoints[0].name}", highlight=False)


def print_details(model: dict[str, Any]) -> None:
    """Prints one model in detail."""
    table = Table(show_header=False, box=None, title=model["name"], title_justify="left")
    table.add_row("parameters", f"{model['parameters']:,}")
    for part, count in model["parts"].items():
        table.add_row(f"  {part}", f"{count:,}")
    if model["tokens"]:
        table.add_row("tokens", f"{model['tokens']:,}")
    table.add_row("multiply-accumulates", f"{model['macs'] / 1e9:,.3f} billion per image")
    for precision in ("float32", "bfloat16"):
        if size := model.get(f"activation_bytes_{precision}"):
            table.add_row(f"activations, {precision}", gigabytes(size))
    for key, value in model["architecture"].items():
        table.add_row(key, str(value))
    Console().print(table, highlight=False)


def gigabytes(count: int | float) -> str:
    """Bytes in GB or MB."""
    return f"{count / 1e9:,.2f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"
