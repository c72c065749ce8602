"""What suites check of their arguments alike, before anything is computed."""

import os
from dataclasses import fields
from pathlib import Path

from vitral.data.config import DataConfig
from vitral.errors import UserError

__all__ = ["check_cache", "check_data"]


def check_cache(folder: Path | None) -> None:
    """Refuses a folder to keep things in that cannot be made or written to.

    Raises:
        UserError: as it says.
    """
    if folder is None:
        return
    above = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not above.is_dir():
        raise UserError(f"{above} is a file: name a folder with --cache")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"{above} cannot be written to: name a folder to keep representations in with --cache")


def check_data(data: DataConfig, default: DataConfig, *, used: tuple[str, ...], suite: str) -> None:
    """Refuses settings of the data that a suite, which has its own way to find images, would not heed.

    Args:
        data: as the user has it.
        default: as it would be without a word.
        used: fields that the suite heeds.
        suite: its name.

    Raises:
        UserError: there is such a setting.
    """
    for name in (field.name for field in fields(data) if field.name not in used):
        if getattr(data, name) != getattr(default, name):
            heeded = ", ".join(map(flag, used[:-1])) + f" and {flag(used[-1])}"
            raise UserError(f"--suite {suite} heeds {heeded} alone: leave out {flag(name)}")


def flag(field: str) -> str:
    """The flag of a field of the data."""
    return f"--data.{field.replace('_', '-')}"
