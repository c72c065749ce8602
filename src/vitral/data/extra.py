"""Optional packages."""

from importlib import import_module
from types import ModuleType

from vitral.errors import UserError

__all__ = ["optional"]


def optional(name: str, *, purpose: str, extra: str = "data") -> ModuleType:
    """Imports an optional package.

    Args:
        name: of the module.
        purpose: what needs it, for the error's sentence.
        extra: Vitral's extra that installs it.

    Raises:
        UserError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError:
        raise UserError(f"{purpose} needs the package {name}: pip install 'vitral[{extra}]'") from None
