"""`vitral convert`: weights from one project's format to another's."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitral.commands.checkpoint import tell
from vitral.commands.output import note, print_json
from vitral.errors import UserError
from vitral.models import Model
from vitral.vit import ViT
from vitral.weights.folder import WEIGHTS
from vitral.weights.foreign import LINEAGES
from vitral.weights.load import load_with_report
from vitral.weights.upstream import BUILDERS, Owner, owner_of
from vitral.weights.writing import is_folder, write_model

__all__ = ["main"]


def main(arguments: list[str]) -> None:
    """Converts, gives the result to its owner's own model where that is installed, and says how far its logits are."""
    options = parsed(arguments)
    if options.to != "vitral" and options.to not in LINEAGES:
        raise UserError(f"--to {options.to} is not known: choose vitral, {', '.join(LINEAGES)}")
    if options.destination.exists():
        raise UserError(f"{options.destination} is there already: name another place, or remove it first")
    told = {"num_heads": options.num_heads} if options.num_heads else {}
    model, report = load_with_report(options.source, allow_missing=options.allow_missing, **told)
    caveats = write_model(model, options.destination, options.to)
    by, kind, difference = verified(model, options.destination, options.to)
    if options.json:
        facts = {
            "source": str(options.source),
            "destination": str(options.destination),
            "format": options.to,
            "lineage": report.lineage if report else "vitral",
            "tensors": len(model.state_dict()),
            "missing": list(report.missing) if report else [],
            "unexpected": list(report.unexpected) if report else [],
            "notes": [*(report.notes if report else ()), *caveats],
            "verified_by": by,
            "compared": kind,
            "largest_difference": difference,
        }
        print_json(facts)
        return
    if report:
        tell(report)
    for sentence in caveats:
        note(sentence)
    print(f"{options.destination}: {len(model.state_dict())} tensors as {options.to}")
    print(f"read back by {by}, its {kind} of random images differ from the source's by at most {difference:.1e}")


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="vitral convert",
        description="Converts weights. The source's format is recognised from what it holds; the result is read back, "
        "by the model of the project that owns the format where that is installed, and compared.",
    )
    parser.add_argument("source", metavar="SRC", help="a file, a folder, or hf-hub:OWNER/NAME")
    parser.add_argument(
        "destination",
        type=Path,
        metavar="DST",
        help="a new file; a new folder for vitral, and for timm, transformers and dinov2 where the name has no ending",
    )
    parser.add_argument("--to", required=True, metavar="FORMAT", help=f"vitral, {', '.join(LINEAGES)}")
    parser.add_argument("--num-heads", type=int, metavar="N", help="attention heads, where the source does not tell")
    parser.add_argument("--allow-missing", action="store_true", help="arrays may be missing or left over")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(arguments)


def verified(model: Model, destination: Path, form: str) -> tuple[str, str, float]:
    """Reads what was written and computes with it: who did, what was compared, and the largest difference."""
    whole = is_folder(destination, form)
    heads: dict[str, Any] = {} if whole or not isinstance(model, ViT) else {"num_heads": model.config.num_heads}
    again, _ = load_with_report(destination, **heads)
    if form in BUILDERS and isinstance(again, ViT):
        owner = owner_of(form, destination / WEIGHTS if whole else destination, again.config)
        if isinstance(owner, Owner):
            compute = model if owner.gives == "logits" else pooled(model)
            return owner.title, owner.gives, largest_difference(model, compute, owner.compute)
        note(owner)
    # a format without a head is compared by what the head would read
    if again.head.weight.any():
        return "Vitral", "logits", largest_difference(model, model, again)
    return "Vitral", "features", largest_difference(model, pooled(model), pooled(again))


def pooled(model: Model) -> Callable[[Tensor], Tensor]:
    """What the model's head reads of images."""
    return lambda images: model.features(images).pooled


@torch.inference_mode()
def largest_difference(model: Model, one: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor]) -> float:
    """Between what two functions give for the same random images of the model's size."""
    config = model.config
    images = torch.rand(2, config.channels, *config.image_hw, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return (one(images) - other(images)).abs().max().item()
