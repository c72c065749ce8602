"""Configurations are frozen dataclasses; here they are checked, become JSON and come back, every key known."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import TypeAdapter, ValidationError, model_validator

from vitral.errors import UserError
from vitral.files import write_json

__all__ = [
    "check_choices",
    "check_divisible",
    "check_fractions",
    "check_maximum",
    "check_minimum",
    "from_dict",
    "load_config",
    "map_paths",
    "pair",
    "parse_json",
    "read_json",
    "renamed",
    "save_config",
    "to_dict",
]

MOST_STAGES = 8
"""Stages of a ResNet; each is twice as wide as the one before."""

MAX_DEPTH = 64
"""Levels of lists and objects in a configuration."""

T = TypeVar("T")
NOTHING: Mapping[str, Any] = MappingProxyType({})


def renamed(
    *, keys: Mapping[str, str] = NOTHING, values: Mapping[str, Mapping[str, str]] = NOTHING
) -> Callable[[type[T]], type[T]]:
    """Decorates a dataclass whose keys or values were renamed: files with the old names load, new names are written.

    A key that is given by both names is unknown by its old one.

    Args:
        keys: each old key and its new name, such as {"views": "crops"}.
        values: for a key, by its new name, each old value and its new name.
    """

    def with_new_names(cls: type, loaded: Any) -> Any:
        if not isinstance(loaded, dict):
            return loaded
        new = {key if keys.get(key, key) in loaded else keys[key]: value for key, value in loaded.items()}
        for key in values.keys() & new.keys():
            if isinstance(new[key], str):
                new[key] = values[key].get(new[key], new[key])
        return new

    def decorate(cls: type[T]) -> type[T]:
        before: Any = model_validator(mode="before")
        cls._with_new_names = before(classmethod(with_new_names))  # pyright: ignore[reportAttributeAccessIssue]
        return cls

    return decorate


_adapter = cache(TypeAdapter)
"""pydantic's schema of a dataclass, which takes 50 ms to build for a run's configuration."""


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as plain JSON values: tuples become lists, paths strings."""
    return _adapter(type(config)).dump_python(config, mode="json")


def from_dict(cls: type[T], values: Any, *, origin: str) -> T:
    """Builds `cls` from plain values.

    Args:
        cls: the dataclass to build.
        values: what `to_dict` gave, perhaps edited by hand.
        origin: where the values come from, for the error's sentence.

    Raises:
        UserError: an unknown key, a missing one, or a value of the wrong type or out of range.
    """
    try:
        return _adapter(cls).validate_python(values, extra="forbid")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        keys = (str(part) for part in first["loc"])
        where = ".".join(key for key in keys if not key.startswith("(")) or "the whole"  # brackets: a union's branch
        reason = "is not a known key" if first["type"].startswith("unexpected") else f"is wrong: {first['msg']}"
        raise UserError(f"{origin}: {where} {reason}") from None


def save_config(path: Path, config: Any) -> None:
    """Writes the configuration as JSON, atomically."""
    write_json(path, to_dict(config))


def load_config(cls: type[T], path: Path) -> T:
    """Reads a configuration back.

    Raises:
        UserError: the file is not JSON, or does not describe a `cls`.
        OSError: the file cannot be read.
    """
    return from_dict(cls, read_json(path), origin=str(path))


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        UserError: the file is not JSON, or too deeply nested.
        OSError: the file cannot be read.
    """
    try:
        text = path.read_text()
    except ValueError as error:  # bytes that are no text
        raise UserError(f"{path} is not JSON: {error}") from None
    value = parse_json(text, origin=str(path))
    level = [value]
    for _ in range(MAX_DEPTH):
        if not (level := [child for parent in level for child in _children(parent)]):
            return value
    raise UserError(f"{path} is not a configuration: its JSON is nested too deeply")


def _children(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def parse_json(text: str | bytes, *, origin: str) -> Any:
    """The value that JSON text states.

    Args:
        text: as another program wrote it, perhaps damaged.
        origin: where it comes from, for the error's sentence.

    Raises:
        UserError: it is not JSON, or too deeply nested.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise UserError(f"{origin} is not JSON that can be read: it is nested too deeply") from None
    except ValueError as error:  # also of bytes that are no text, and of numbers with too many digits
        raise UserError(f"{origin} is not JSON: {error}") from None


def map_paths(config: T, change: Callable[[Path], Path]) -> T:
    """A configuration with every path in it changed, also in the configurations that it holds."""
    changed: dict[str, Any] = {}
    for field in fields(config):  # pyright: ignore[reportArgumentType]
        value = getattr(config, field.name)
        if isinstance(value, Path):
            changed[field.name] = change(value)
        elif is_dataclass(value):
            changed[field.name] = map_paths(value, change)
    return replace(config, **changed)  # pyright: ignore[reportArgumentType]


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width of what is a square where one number is given."""
    return (size, size) if isinstance(size, int) else size


def check_choices(config: Any) -> None:
    """Refuses a name that is not among those that its field allows.

    Raises:
        UserError: names the field, the choices and what was given.
    """
    for field in fields(config):
        known, value = get_args(field.type), getattr(config, field.name)
        if get_origin(field.type) is Literal and value not in known:
            raise UserError(f"{field.name} must be one of {', '.join(known)}, not {value!r}")


def check_minimum(config: Any, least: int, *names: str) -> None:
    """Refuses sizes below `least`; None is not given. Raises UserError."""
    for name in names:
        if (size := getattr(config, name)) is not None and size < least:
            raise UserError(f"{name} must be at least {least}, not {size}")


def check_maximum(config: Any, most: Mapping[str, int]) -> None:
    """Refuses sizes beyond any model's, which would take all memory or hours to build. Raises UserError."""
    for name, limit in most.items():
        value = getattr(config, name)
        sizes = value if isinstance(value, tuple) else (value,)
        if len(sizes) > MOST_STAGES:
            raise UserError(f"{name} must be at most {MOST_STAGES} numbers, not {len(sizes)}")
        if any(size > limit for size in sizes if size is not None):
            raise UserError(f"{name} must be at most {limit}, not {value}")


def check_fractions(config: Any, *names: str) -> None:
    """Refuses fractions outside [0, 1). Raises UserError."""
    for name in names:
        if not 0 <= (fraction := getattr(config, name)) < 1:
            raise UserError(f"{name} must be in [0, 1), not {fraction}")


def check_divisible(image_hw: tuple[int, int], patch_hw: tuple[int, int]) -> None:
    """Refuses an image that whole patches do not fill. Raises UserError with the next size that they do."""
    (h, w), (p, q) = image_hw, patch_hw
    if any(length < 1 for length in (h, w, p, q)):  # not min, which an exported graph cannot take for every size
        raise UserError(f"image and patch size must be at least 1 pixel, not {h}x{w} and {p}x{q}")
    if h % p or w % q:
        raise UserError(
            f"image size {h}x{w} is not divisible by patch size {p}x{q}: "
            f"choose {max(h // p, 1) * p}x{max(w // q, 1) * q}, or another patch size"
        )
