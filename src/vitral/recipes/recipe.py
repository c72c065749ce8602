"""An entry of the recipe registry, which imports the recipe's module only to build it."""

import ast
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import vitral.train.config

__all__ = ["Recipe"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A function that returns a complete run configuration, by the place where it is defined.

    Its docstring is read from the source, because importing the module imports PyTorch.
    """

    function: str
    """Module in `vitral.recipes` and function, such as `digits:digits`."""
    takes: Literal["model", "weights"] | None = None
    """Argument of the function: a model's name (`--model.name`) or trained weights (`--model.weights`)."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Further keyword arguments of the function."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Values of the fields in the function's docstring, besides `arguments`."""

    def __call__(self, *args: Any, **options: Any) -> "vitral.train.config.RunConfig":
        """Builds the configuration.

        Args:
            args: the model's name or the weights' path, as `takes` says; by default the recipe's own model.
            options: how the weights are read, as in `load_with_report`.
        """
        return self.load()(*args, **options, **self.arguments)

    def load(self) -> Callable[..., Any]:
        """The function; imports its module."""
        module, name = self.function.split(":")
        return getattr(import_module(f"vitral.recipes.{module}"), name)

    def describe(self) -> dict[str, str]:
        """The docstring's first line, and its lines Command, Expect, Time and Source.

        An indented line continues the line before.
        """
        text = _docstrings(self.function.split(":")[0])[self.function.split(":")[1]]
        if values := {**self.arguments, **self.facts}:
            text = text.format(**values)
        summary, *rest = re.sub(r"\n +", " ", text).splitlines()
        lines = dict(line.split(": ", 1) for line in rest if ": " in line)
        keys = ("Command", "Expect", "Time", "Source")
        return {"summary": summary, **{key.lower(): lines[key].strip() for key in keys}}


@cache
def _docstrings(module: str) -> dict[str, str]:
    """The docstring of every function in a module of `vitral.recipes`, without importing it."""
    spec = find_spec(f"vitral.recipes.{module}")
    assert spec is not None
    assert spec.origin is not None
    functions = (node for node in ast.parse(Path(spec.origin).read_text()).body if isinstance(node, ast.FunctionDef))
    return {node.name: inspect.cleandoc(ast.get_docstring(node) or "") for node in functions}
