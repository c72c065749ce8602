"""`vitral push`: uploads a model to the Hugging Face Hub."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from vitral.commands.arguments.weights import source_options
from vitral.commands.loading import load_and_note
from vitral.commands.output import note, print_json
from vitral.errors import UserError
from vitral.files import atomic_folder, write_atomically
from vitral.inspection.cost import forward_macs
from vitral.models import Model
from vitral.vit import ViT
from vitral.weights.address import HUB_PREFIX
from vitral.weights.folder import ModelConfig, save_model
from vitral.weights.hub import upload
from vitral.weights.lineages.registry import LINEAGES
from vitral.weights.readme import render_readme
from vitral.weights.save import save_upstream_folder
from vitral.weights.tensor_file import read_json
from vitral.weights.upstream_config import CONFIG_FILES
from vitral.weights.write import storable, upstream_state_dict, written_headless

__all__ = ["main"]

CLASSIFIERS = ("timm", "transformers")
"""Formats with a classification head, which the model card recommends."""


def main(options: argparse.Namespace) -> None:
    """Writes the files, uploads them, and prints the model's address."""
    model = load_and_note(options.run, **source_options(options))
    with destination(options.dry_run) as folder:
        caveats = fill(folder, model, options)
        for sentence in caveats:
            note(sentence)
        files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
        address = None
        if not options.dry_run:
            address = upload(
                folder,
                options.name,
                private=options.private,
                revision=options.revision,
                message=options.message or f"{options.run.name}, pushed by vitral",
            )
    if options.json:
        print_json({"name": options.name, "format": options.form, "address": address, "files": files})
    elif options.dry_run:
        print(f"{options.dry_run}: {', '.join(files)}; nothing was uploaded")
    else:
        at = f"@{options.revision}" if options.revision else ""
        print(f"{address}\nload it anywhere with vitral.load({f'{HUB_PREFIX}{options.name}{at}'!r})")


@contextmanager
def destination(dry_run: Path | None) -> Iterator[Path]:
    """The folder of `--dry-run`, or a temporary one."""
    if dry_run:
        with atomic_folder(dry_run) as folder:
            yield folder
    else:
        with TemporaryDirectory(prefix="vitral-push-") as folder:
            yield Path(folder)


def fill(folder: Path, model: Model, options: argparse.Namespace) -> list[str]:
    """Writes all files of the repository; returns one sentence for each result that differs in the format.

    Raises:
        UserError: the model has no card, or the format does not support the architecture.
    """
    if model.card is None:
        raise UserError(f"{options.run} has no card, so its preprocessing and class names are unknown")
    config = ModelConfig(architecture=model.config, card=model.card)
    caveats: list[str] = []
    if options.form == "vitral":
        save_model(folder, model, model.card)
    elif isinstance(model, ViT):
        caveats = save_upstream_folder(model, folder, options.form)
    else:
        raise UserError(f"the format {options.form} has no ResNets, and {options.run} is one")
    page = render_readme(
        config,
        name=options.name,
        macs=forward_macs(model.config),
        run=read_json(options.run / "run.json"),
        licence=options.licence,
        format=options.form,
        other_formats=[form for form in CLASSIFIERS if form != options.form and supports(form, model)],
    )
    write_atomically(folder / "README.md", lambda file: file.write(page.encode()))
    return caveats


def supports(form: str, model: Model) -> bool:
    """Whether a format supports the whole model, with its head."""
    card = model.card
    if not isinstance(model, ViT) or card is None:
        return False
    try:
        model, _ = storable(LINEAGES[form], model)
        config = CONFIG_FILES[form](model.config, card, written_headless(model))["config.json"]
        upstream_state_dict(LINEAGES[form], model, upstream_config=config)
    except UserError:
        return False
    return True
