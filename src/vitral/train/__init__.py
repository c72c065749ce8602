"""Training: the loop and everything it calls. The package itself can be called: see `vitral.train`."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__all__: list[str] = []


class _Callable(ModuleType):
    """Makes `vitral.train("folder", data_root="photos")` a call, although the package has the name."""

    def __call__(self, *args: Any, **keys: Any) -> Any:
        """See `vitral.commands.train_from_python.train`."""
        return import_module("vitral.commands.train_from_python").train(*args, **keys)


sys.modules[__name__].__class__ = _Callable
