"""`vitral push`: a model to the Hugging Face Hub."""

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from vitral.commands.checkpoint import load_checkpoint
from vitral.commands.output import note, print_json
from vitral.errors import UserError
from vitral.files import whole_folder, write_atomically
from vitral.inspection.cost import forward_macs
from vitral.models import Model
from vitral.vit import ViT
from vitral.weights.arrays import read_json
from vitral.weights.folder import ModelConfig, save_model
from vitral.weights.foreign import LINEAGES, written_as
from vitral.weights.hub import HUB, upload
from vitral.weights.readme import model_page
from vitral.weights.settings import SETTINGS
from vitral.weights.writing import write_settled

__all__ = ["main"]

FORMATS = ("vitral", *SETTINGS)
"""What a repository can be."""
CLASSIFIERS = ("timm", "transformers")
"""Those that have a place for a head, which the page recommends to others."""


def main(arguments: list[str]) -> None:
    """Writes the files, sends them, and prints where they are."""
    options = parsed(arguments)
    if options.form not in FORMATS:
        raise UserError(f"--as {options.form} is not known: choose {', '.join(FORMATS)}")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", options.name):
        raise UserError(f"{options.name} is no name of a model on the Hub: give OWNER/NAME")
    if options.dry_run and options.dry_run.exists():
        raise UserError(f"{options.dry_run} is there already: name another folder, or remove it first")
    model = load_checkpoint(options.run)
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
        print(f"{options.dry_run}: {', '.join(files)}; nothing was sent")
    else:
        at = f"@{options.revision}" if options.revision else ""
        print(f"{address}\nload it anywhere with vitral.load({f'{HUB}{options.name}{at}'!r})")


def parsed(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="vitral push",
        description="Sends a model to the Hugging Face Hub: weights, configuration and a page about it. Log in with hf "
        "auth login first, or set HF_TOKEN.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a trained model, or another project's file")
    parser.add_argument("name", metavar="OWNER/NAME", help="the model's name on the Hub; made where there is none")
    parser.add_argument(
        "--as",
        dest="form",
        default="vitral",
        metavar="FORMAT",
        help=f"whose loader takes the repository: {', '.join(FORMATS)} (default: vitral); Vitral's takes all",
    )
    parser.add_argument("--private", action="store_true", help="hide a new repository from others")
    parser.add_argument("--licence", metavar="NAME", help="the weights' licence in the Hub's word, such as apache-2.0")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to send to (default: main)")
    parser.add_argument("--message", metavar="TEXT", help="message of the commit")
    parser.add_argument("--dry-run", type=Path, metavar="DIR", help="write what would be sent to a new folder instead")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args(arguments)


@contextmanager
def destination(dry_run: Path | None) -> Iterator[Path]:
    """Where the files are written: the folder asked for, or one that is gone afterwards."""
    if dry_run:
        with whole_folder(dry_run) as folder:
            yield folder
    else:
        with TemporaryDirectory(prefix="vitral-push-") as folder:
            yield Path(folder)


def fill(folder: Path, model: Model, options: argparse.Namespace) -> list[str]:
    """Writes everything that is sent; a sentence for each number that is computed otherwise in the format.

    Raises:
        UserError: the model has no card, or the format no place for what it is made of.
    """
    if model.card is None:
        raise UserError(f"{options.run} has no card, which tells preprocessing and class names")
    config = ModelConfig(architecture=model.config, card=model.card)
    caveats: list[str] = []
    if options.form == "vitral":
        save_model(folder, model, model.card)
    elif isinstance(model, ViT):
        caveats = write_settled(model, folder, options.form)
    else:
        raise UserError(f"the format {options.form} is one of Vision Transformers, and this model is a ResNet")
    page = model_page(
        config,
        name=options.name,
        macs=forward_macs(model.config),
        run=read_json(options.run / "run.json"),
        licence=options.licence,
        form=options.form,
        others=[form for form in CLASSIFIERS if form != options.form and holds(form, model)],
    )
    write_atomically(folder / "README.md", lambda file: file.write(page.encode()))
    return caveats


def holds(form: str, model: Model) -> bool:
    """Whether a format has a place for everything the model is made of, its head too."""
    if not isinstance(model, ViT) or model.card is None:
        return False
    try:
        written_as(LINEAGES[form], model, settings=SETTINGS[form](model.config, model.card)["config.json"])
    except ValueError:
        return False
    return True
