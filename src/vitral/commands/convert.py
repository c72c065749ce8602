"""`vitral convert`: converts weights between formats."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitral.commands.loading import note_report
from vitral.commands.output import note, print_json
from vitral.models import Model
from vitral.vit import ViT
from vitral.weights.folder import WEIGHTS
from vitral.weights.load import load_with_report
from vitral.weights.save import is_folder, save_as
from vitral.weights.upstream_model import BUILDERS, UpstreamModel, load_upstream_model

__all__ = ["main"]


def main(options: argparse.Namespace) -> None:
    """Converts, loads the result again, and prints how far its outputs are from the source's."""
    heads = {"num_heads": options.num_heads} if options.num_heads else {}
    model, report = load_with_report(
        options.source,
        allow_missing=options.allow_missing,
        checkpoint_key=options.checkpoint_key,
        prefix=options.prefix,
        **heads,
    )
    caveats = save_as(model, options.destination, options.to)
    by, output, difference = verify(model, options.destination, options.to)
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
            "compared": output,
            "largest_difference": difference,
        }
        print_json(facts)
        return
    if report:
        note_report(report)
    for sentence in caveats:
        note(sentence)
    print(f"{options.destination}: {len(model.state_dict())} tensors as {options.to}")
    print(f"loaded again by {by}: its {output} of random images differ from the source's by at most {difference:.1e}")


def verify(model: Model, destination: Path, form: str) -> tuple[str, str, float]:
    """Loads the written file and compares its outputs: the library that computed them, which outputs, and the
    largest absolute difference.
    """
    folder = is_folder(destination, form)
    heads: dict[str, Any] = {} if folder or not isinstance(model, ViT) else {"num_heads": model.config.num_heads}
    loaded, _ = load_with_report(destination, **heads)
    if form in BUILDERS and isinstance(loaded, ViT):
        owner = load_upstream_model(form, destination / WEIGHTS if folder else destination, loaded.config)
        if isinstance(owner, UpstreamModel):
            compute = model if owner.output == "logits" else pooled(model)
            return owner.title, owner.output, largest_difference(model, compute, owner.forward)
        note(owner)
    # a format without a head is compared by the head's input
    if loaded.head.weight.any():
        return "Vitral", "logits", largest_difference(model, model, loaded)
    return "Vitral", "features", largest_difference(model, pooled(model), pooled(loaded))


def pooled(model: Model) -> Callable[[Tensor], Tensor]:
    """The input of the model's head, as a function of images."""
    return lambda images: model.features(images).pooled


@torch.inference_mode()
def largest_difference(model: Model, one: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor]) -> float:
    """The largest absolute difference of two functions' outputs for random images of the model's size."""
    config = model.config
    images = torch.rand(2, config.channels, *config.image_hw, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return (one(images) - other(images)).abs().max().item()
