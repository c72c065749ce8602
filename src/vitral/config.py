"""Configurations are frozen dataclasses; here they become JSON and come back, every key checked."""

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from vitral.files import write_json

__all__ = ["from_dict", "load_config", "save_config", "to_dict"]

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as plain JSON values: tuples become lists, paths strings."""
    return TypeAdapter(type(config)).dump_python(config, mode="json")


def from_dict(cls: type[T], values: Any, *, origin: str) -> T:
    """Builds `cls` from plain values.

    Args:
        cls: the dataclass to build.
        values: what `to_dict` gave, perhaps edited by hand.
        origin: where the values come from, for the error's sentence.

    Raises:
        ValueError: an unknown key, a missing one, or a value of the wrong type or out of range.
    """
    try:
        return TypeAdapter(cls).validate_python(values, extra="forbid")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        reason = "is not a known key" if first["type"].startswith("unexpected") else f"is wrong: {first['msg']}"
        raise ValueError(f"{origin}: {where} {reason}") from None


def save_config(path: Path, config: Any) -> None:
    """Writes the configuration as JSON, atomically."""
    write_json(path, to_dict(config))


def load_config(cls: type[T], path: Path) -> T:
    """Reads a configuration back.

    Raises:
        ValueError: the file is not JSON, or does not describe a `cls`.
        OSError: the file cannot be read.
    """
    try:
        values = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    return from_dict(cls, values, origin=str(path))
