"""Optional packages."""

from importlib import import_module
from types import ModuleType

from vitral.errors import UserError

__all__ = ["optional"]


def optional(name: str, *, purpose: str) -> ModuleType:
    """Imports an optional package.

    Args:
        name: of the module.
        purpose: what needs it, for the error's sentence.

    Raises:
        UserError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError:
        raise UserError(f"{purpose} needs the package {name}: pip install 'vitral[data]'") from None
