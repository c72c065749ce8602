"""Checks of paths, before anything is computed."""

import argparse
import os
from pathlib import Path

from vitral.errors import UserError
from vitral.weights.address import check_address

__all__ = [
    "TOKEN_MERGING_HELP",
    "check_model",
    "check_output",
    "check_run",
    "image_size",
    "model_path",
    "picture_path",
    "token_merging",
]

TABLE_SUFFIXES = (".md", ".csv", ".json")
"""Endings of the files that a table can be written to."""

TOKEN_MERGING_HELP = "merge N pairs of similar patches in every block: faster, less exact (ToMe; see docs/speed.md)"

MODEL_FILES = ("config.json", "preprocessor_config.json", "run.json")
"""Files that mark a model's folder."""


def check_model(model: str | Path) -> None:
    """Checks that a local model exists, and the form of an address on the Hub, which is left to the loader.

    Raises:
        UserError: there is no such file or folder, or it is a web page, or an address without owner.
    """
    check_address(model)


def model_path(text: str) -> Path:
    """A command's argument that names a model; pathlib takes an empty one for the current folder, a URL for a path.

    Raises:
        ArgumentTypeError: it is empty, or a web address.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("the name is empty: give a folder, a file, or hf-hub:OWNER/NAME")
    if "://" in text:
        try:
            check_address(text)
        except UserError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    return Path(text)


def check_run(folder: Path) -> None:
    """Checks that a folder is that of a training run.

    Raises:
        UserError: it has no run.json.
    """
    if not (folder / "run.json").is_file():
        missing = "it has no run.json" if folder.is_dir() else "there is no such folder"
        raise UserError(f"{folder} is not a training run: {missing}")


def image_size(text: str | None) -> int | None:
    """The value of `--image-size`, in pixels; None without the option.

    Raises:
        UserError: it is not a number above 0.
    """
    return _count(text, "--image-size", "pixels such as 224")


def token_merging(text: str | None) -> int | None:
    """The value of `--token-merging`, in pairs; None without the option.

    Raises:
        UserError: it is not a number above 0.
    """
    return _count(text, "--token-merging", "pairs in every block such as 8")


def _count(text: str | None, option: str, what: str) -> int | None:
    """The value of an option that counts something; None without the option."""
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"{option} must be a number of {what}, not {text!r}")
    return int(text)


def check_output(path: Path | None, *, suffixes: tuple[str, ...] = TABLE_SUFFIXES, option: str = "--out") -> None:
    """Checks that a file for results can be written and has a supported suffix.

    Raises:
        UserError: it cannot, or has not.
    """
    if path is None:
        return
    if path.suffix.lower() not in suffixes:
        allowed = " or ".join(filter(None, [", ".join(suffixes[:-1]), suffixes[-1]]))
        raise UserError(f"{path} has no supported suffix: {option} must end in {allowed}")
    if path.name in MODEL_FILES:
        raise UserError(f"{path} would be read as a model's own {path.name}: give another file with --out")
    check_writable(path)


def picture_path(out: Path | None, *, default: Path, suffixes: tuple[str, ...] = (".png",)) -> Path:
    """The path of a picture, by default `default`, checked before anything is computed.

    Raises:
        UserError: the folder does not exist or is read-only, the file's name has none of the suffixes, or it is a
            folder.
    """
    path = default if out is None else out
    if path.suffix.lower() not in suffixes:
        raise UserError(f"{path} is not a {suffixes[0]} file: --out must end in {' or '.join(suffixes)}")
    check_writable(path)
    return path


def check_writable(path: Path) -> None:
    """Checks that a file can be written.

    Raises:
        UserError: its folder does not exist or is read-only, or it is itself a folder.
    """
    if not path.parent.is_dir():
        raise UserError(f"{path.parent} does not exist: make the folder, or give another --out")
    if path.is_dir():
        raise UserError(f"{path} is a folder: give a file with --out")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UserError(f"{path.parent} cannot be written to: give a file in another folder with --out")
