"""Arguments of `vitral push`."""

import argparse
import re
from pathlib import Path

from vitral.commands.arguments.checks import check_model, model_path
from vitral.commands.arguments.flags import ArgumentParser
from vitral.commands.arguments.formats import FOLDER_FORMATS, check_format
from vitral.commands.arguments.weights import add_source_options
from vitral.errors import UserError

__all__ = ["parse"]


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command's arguments.

    Raises:
        UserError: there is no such format or model, the name is not OWNER/NAME, or the folder of `--dry-run` exists.
    """
    parser = ArgumentParser(
        prog="vitral push",
        description="Upload a model to the Hugging Face Hub: weights, configuration and model card. Log in with hf "
        "auth login first, or set HF_TOKEN.",
    )
    parser.add_argument(
        "run", type=model_path, metavar="RUN", help="folder of a trained model, or another library's file"
    )
    parser.add_argument("name", metavar="OWNER/NAME", help="the repository on the Hub; created if there is none")
    parser.add_argument(
        "--as",
        dest="form",
        default="vitral",
        metavar="FORMAT",
        help=f"format of the repository: {', '.join(FOLDER_FORMATS)} (default: vitral); Vitral loads all of them",
    )
    parser.add_argument("--private", action="store_true", help="create a private repository")
    parser.add_argument(
        "--licence", metavar="NAME", help="licence of the weights as an identifier of the Hub, such as apache-2.0"
    )
    parser.add_argument("--revision", metavar="BRANCH", help="branch to push to (default: main)")
    parser.add_argument("--message", metavar="TEXT", help="commit message")
    parser.add_argument(
        "--dry-run", type=Path, metavar="DIR", help="write the files to a new folder and upload nothing"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_source_options(parser)
    options = parser.parse_args(arguments)
    check_format(options.form, FOLDER_FORMATS)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", options.name):
        raise UserError(f"{options.name} is not a repository on the Hub: give OWNER/NAME")
    if options.dry_run and options.dry_run.exists():
        raise UserError(f"{options.dry_run} exists: give another folder, or remove it first")
    check_model(options.run)
    return options
