"""`vitral convert`: weights from one project's format to another's."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from vitral.commands.checkpoint import tell
from vitral.commands.output import note, print_json
from vitral.files import write_atomically
from vitral.models import Model
from vitral.vit import ViT
from vitral.weights.folder import save_model
from vitral.weights.foreign import LINEAGES, written_as
from vitral.weights.load import load, load_with_report

__all__ = ["main"]

ARCHIVES = ("google", "google-linen", "big_vision")
"""Formats that are NumPy archives; the others are safetensors."""


def main(arguments: list[str]) -> None:
    """Converts, reads the result back and says how far its logits are from the source's."""
    options = parsed(arguments)
    if options.to != "vitral" and options.to not in LINEAGES:
        raise ValueError(f"--to {options.to} is not known: choose vitral, {', '.join(LINEAGES)}")
    if options.destination.exists():
        raise ValueError(f"{options.destination} is there already: name another place, or remove it first")
    changes = {"num_heads": options.num_heads} if options.num_heads else {}
    model, report = load_with_report(options.source, allow_missing=options.allow_missing, **changes)
    caveats = write(model, options.destination, options.to)
    if isinstance(model, ViT) and options.to != "vitral":
        again: Model = load(options.destination, num_heads=model.config.num_heads)
    else:
        again = load(options.destination)
    difference = largest_difference(model, again)
    facts = {
        "source": str(options.source),
        "destination": str(options.destination),
        "format": options.to,
        "lineage": report.lineage if report else "vitral",
        "tensors": len(model.state_dict()),
        "missing": list(report.missing) if report else [],
        "unexpected": list(report.unexpected) if report else [],
        "notes": [*(report.notes if report else ()), *caveats],
        "largest_difference": difference,
    }
    if options.json:
        print_json(facts)
        return
    if report:
        tell(report)
    for sentence in caveats:
        note(sentence)
    print(f"{options.destination}: {facts['tensors']} tensors as {options.to}")
    print(f"read back, its logits of random images differ from the source's by at most {difference:.1e}")


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="vitral convert",
        description="Converts weights. The source's format is recognised from what it holds; the result is read back "
        "and compared.",
    )
    parser.add_argument("source", metavar="SRC", help="a file, a folder, or hf-hub:OWNER/NAME")
    parser.add_argument("destination", type=Path, metavar="DST", help="a new file; a new folder for vitral")
    parser.add_argument("--to", required=True, metavar="FORMAT", help=f"vitral, {', '.join(LINEAGES)}")
    parser.add_argument("--num-heads", type=int, metavar="N", help="attention heads, where the source does not tell")
    parser.add_argument("--allow-missing", action="store_true", help="arrays may be missing or left over")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(arguments)


def write(model: Model, destination: Path, form: str) -> list[str]:
    """Writes a model in one of the formats, atomically; a sentence for each number that is computed otherwise there."""
    if form == "vitral":
        if model.card is None:
            raise ValueError("a Vitral model needs a card")
        save_model(destination, model, model.card)
        return []
    if not isinstance(model, ViT):
        raise ValueError(f"the format {form} is one of Vision Transformers, and this model is a ResNet")
    arrays, caveats = written_as(LINEAGES[form], model)
    if form in ARCHIVES:
        named: dict[str, Any] = {name: array.numpy() for name, array in arrays.items()}
        write_atomically(destination, lambda file: np.savez(file, allow_pickle=False, **named))
    else:
        write_atomically(destination, lambda file: file.write(save(arrays, metadata={"format": "pt"})))
    return caveats


@torch.inference_mode()
def largest_difference(one: Model, other: Model) -> float:
    """Between the logits of two models on the same random images."""
    config = one.config
    images = torch.rand(2, config.channels, *config.image_hw, generator=torch.Generator().manual_seed(0)) * 2 - 1
    if other.head.weight.any():
        return (one.eval()(images) - other.eval()(images)).abs().max().item()
    # the format has no head: what the head would read is compared
    return (one.eval().features(images).pooled - other.eval().features(images).pooled).abs().max().item()
