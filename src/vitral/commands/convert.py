"""`vitral convert`: converts weights between formats."""

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from vitral.commands.arguments.weights import source_options
from vitral.commands.loading import note_report
from vitral.commands.output import note, print_json
from vitral.errors import UserError
from vitral.models import Model
from vitral.vit import ViT
from vitral.weights.adapt import adapt_model
from vitral.weights.folder import WEIGHTS
from vitral.weights.load import load_with_report, read_back
from vitral.weights.save import is_folder, save_as
from vitral.weights.upstream_model import BUILDERS, UpstreamModel, load_upstream_model

__all__ = ["main"]

Outputs = Mapping[str, Callable[[Tensor], Tensor]]
"""Functions of images by the name of their output."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """Comparison of a written model with its source."""

    by: str
    """The library that computed the outputs."""
    differences: dict[str, float]
    """Largest absolute difference of each output for random images, such as `logits` and `features at 240x256`."""
    notes: list[str] = field(default_factory=list)
    """One sentence for each difference that is not the weights', and for each comparison that was not possible."""


def main(options: argparse.Namespace) -> None:
    """Converts, checks the result, and prints how far its outputs are from the source's."""
    model, report = load_with_report(options.source, allow_missing=options.allow_missing, **source_options(options))
    adapted: list[str] = []
    if options.image_size is not None:
        model, adapted = adapt_model(model, image_size=options.image_size)
        count_positions_as_trained(model)
    with renamed_at_the_end(options.destination) as place:
        caveats = [*adapted, *save_as(model, place, options.to)]
        verification = verify(model, place, options.to)
    first, *others = verification.differences.items()
    if options.json:
        facts = {
            "source": str(options.source),
            "destination": str(options.destination),
            "format": options.to,
            "lineage": report.lineage if report else "vitral",
            "tensors": len(model.state_dict()),
            "missing": list(report.missing) if report else [],
            "unexpected": list(report.unexpected) if report else [],
            "notes": [*(report.notes if report else ()), *caveats, *verification.notes],
            "verified_by": verification.by,
            "compared": first[0],
            "largest_difference": first[1],
            "differences": verification.differences,
        }
        print_json(facts)
        return
    if report:
        note_report(report)
    for sentence in (*caveats, *verification.notes):
        note(sentence)
    print(f"{options.destination}: {len(model.state_dict())} tensors as {options.to}")
    more = "".join(f", its {name} by at most {difference:.1e}" for name, difference in others)
    print(
        f"checked with {verification.by}: its {first[0]} of random images differ from the source's by at most "
        f"{first[1]:.1e}{more}"
    )


def count_positions_as_trained(model: Model) -> None:
    """Lets a model interpolate its positions again, as the written one will, which does not know that they were."""
    if isinstance(model, ViT) and model.positions.learned:
        model.positions = replace(model.positions, resampled_from=None)


@contextmanager
def renamed_at_the_end(destination: Path) -> Iterator[Path]:
    """A path of the same name in a temporary folder; what is there becomes `destination` unless an exception is raised.

    Errors name the destination.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}.") as folder:
        place = Path(folder) / destination.name
        try:
            yield place
        except UserError as error:
            raise UserError(str(error).replace(str(place), str(destination))) from None
        except OSError as error:
            error.filename = str(error.filename).replace(str(place), str(destination)) if error.filename else None
            raise
        place.rename(destination)


def verify(model: Model, destination: Path, form: str) -> Verification:
    """Loads the written file, by the upstream library if it is installed, and compares its outputs."""
    folder = is_folder(destination, form)
    loaded, fields = read_back(destination, model)
    notes = [f"the file does not store its {name}: it is {getattr(model.config, name)}" for name in fields]
    if form in BUILDERS and isinstance(loaded, ViT) and isinstance(model, ViT):
        upstream = load_upstream_model(form, destination / WEIGHTS if folder else destination, loaded.config)
        if isinstance(upstream, UpstreamModel):
            verified = verify_by_upstream(model, upstream, resample=loaded.config.position_resample)
            return replace(verified, notes=[*notes, *verified.notes])
        notes.append(upstream)
    differences = largest_differences(outputs(model), outputs(loaded), random_images(model, model.config.image_hw))
    return Verification(by="Vitral", differences=differences, notes=notes)


def verify_by_upstream(model: ViT, upstream: UpstreamModel, *, resample: str) -> Verification:
    """Compares outputs at the model's size, and at another if the upstream model takes images of other sizes.

    Args:
        model: the source.
        upstream: the written model, in the upstream library.
        resample: how the upstream library interpolates positions.
    """
    config = model.config
    theirs = {"features": upstream.features} | ({"logits": upstream.forward} if upstream.output == "logits" else {})
    differences = largest_differences(outputs(model), theirs, random_images(model, config.image_hw))
    if not upstream.any_size:
        return Verification(by=upstream.title, differences=differences)
    (h, w), (p, q) = config.image_hw, config.patch_hw
    size = (h + p, w + 2 * q)
    try:
        at_size = largest_differences(outputs(model), theirs, random_images(model, size))
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        notes = [f"{upstream.title} computes no images of {size[0]}x{size[1]} pixels: {reason}"]
        return Verification(by=upstream.title, differences=differences, notes=notes)
    if config.position == "learned_1d" and config.position_resample != resample:
        notes = [
            f"at {size[0]}x{size[1]} pixels, the {name} of {upstream.title} differ by at most {difference:.1e}, as it "
            f"interpolates positions as {resample} does"
            for name, difference in list(at_size.items())[:1]
        ]
        return Verification(by=upstream.title, differences=differences, notes=notes)
    named = {f"{name} at {size[0]}x{size[1]} pixels": difference for name, difference in at_size.items()}
    return Verification(by=upstream.title, differences=differences | named)


def outputs(model: Model) -> Outputs:
    """Logits, if the head is not zero, and the input of the head; of two heads, that of the class token."""
    distilled = isinstance(model, ViT) and model.config.distillation

    def features(images: Tensor) -> Tensor:
        pooled = model.features(images).pooled
        return pooled[:, 0] if distilled else pooled

    return ({"logits": model} if model.head.weight.any() else {}) | {"features": features}


@torch.inference_mode()
def largest_differences(ours: Outputs, theirs: Outputs, images: Tensor) -> dict[str, float]:
    """The largest absolute difference of each output that both have."""
    names = [name for name in ours if name in theirs]
    return {name: (ours[name](images) - theirs[name](images)).abs().max().item() for name in names}


def random_images(model: Model, size: tuple[int, int]) -> Tensor:
    """Two images with values in -1..1."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, model.config.channels, *size, generator=generator) * 2 - 1
