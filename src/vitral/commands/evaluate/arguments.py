"""Checks of arguments that several suites have, before anything is computed."""

import os
from dataclasses import fields
from pathlib import Path

from vitral.data.config import DataConfig
from vitral.errors import UserError

__all__ = ["check_cache", "check_data"]


def check_cache(folder: Path | None) -> None:
    """Checks that a cache folder exists or can be created.

    Raises:
        UserError: it cannot be created, or is read-only.
    """
    if folder is None:
        return
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not existing.is_dir():
        raise UserError(f"{existing} is a file: give a folder with --cache")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"{existing} cannot be written to: give another folder for cached features with --cache")


def check_data(data: DataConfig, default: DataConfig, *, used: tuple[str, ...], suite: str) -> None:
    """Checks that no setting of the data was changed that a suite does not use.

    Args:
        data: as the user finetune_config it.
        default: as it is without the user's flags.
        used: fields that the suite uses.
        suite: its name.

    Raises:
        UserError: there is such a setting.
    """
    for name in (field.name for field in fields(data) if field.name not in used):
        if getattr(data, name) != getattr(default, name):
            flags = ", ".join(map(flag, used[:-1])) + f" and {flag(used[-1])}"
            raise UserError(f"--suite {suite} uses only {flags}: leave out {flag(name)}")


def flag(field: str) -> str:
    """The flag of a field of the data."""
    return f"--data.{field.replace('_', '-')}"
