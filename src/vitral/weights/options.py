"""Fields of the architecture that a user gives to `vitral.load`: their names and types."""

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from operator import index
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from vitral.errors import UserError, unknown_name

__all__ = ["check_options"]

WORDS: dict[Any, str] = {int: "an integer", float: "a number", bool: "True or False", str: "a text", NoneType: "None"}
_adapter = cache(TypeAdapter)


def check_options(options: Mapping[str, Any], config_class: type) -> dict[str, Any]:
    """The options with NumPy's integers as Python's.

    Args:
        options: values by field.
        config_class: `ViTConfig` or `ResNetConfig`.

    Raises:
        UserError: there is no such field, or a value has another type.
    """
    types: dict[str, Any] = {field.name: field.type for field in fields(config_class)}
    checked = {}
    for name, value in options.items():
        if name not in types:
            raise unknown_name("option", name, types)
        value = index(value) if hasattr(value, "__index__") and not isinstance(value, bool) else value
        try:
            _adapter(types[name]).validate_python(value, strict=True)
        except ValidationError:
            raise UserError(f"{name} is {value!r}, but must be {_in_words(types[name])}") from None
        checked[name] = value
    return checked


def _in_words(kind: Any) -> str:
    """A field's type, such as `an integer or a pair of integers`."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(repr, get_args(kind)))}"
    if isinstance(kind, UnionType):
        return " or ".join(map(_in_words, get_args(kind)))
    if get_origin(kind) is tuple:
        return "a pair of integers" if Ellipsis not in get_args(kind) else "a tuple of integers"
    return WORDS.get(kind, str(kind))
