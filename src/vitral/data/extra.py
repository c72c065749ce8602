"""Packages that not everybody needs."""

from importlib import import_module
from types import ModuleType

from vitral.errors import UserError

__all__ = ["optional"]


def optional(name: str, *, purpose: str) -> ModuleType:
    """The package `name`, imported when it is first needed.

    Args:
        name: as it is imported.
        purpose: what it is needed for, as the error's sentence says it.

    Raises:
        UserError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError:
        raise UserError(f"{purpose} needs the package {name}: pip install 'vitral[data]'") from None
