"""Keyword arguments of Python as the flags of the command line, so that both have the same keys and errors."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

from vitral.train.config import RunConfig

__all__ = ["as_flags"]


def as_flags(keywords: Mapping[str, Any], config: RunConfig) -> list[str]:
    """Flags such as `--data.root photos` from keywords such as `data_root="photos"`.

    Args:
        keywords: keys of the command line, as there (`train.batch-size`) or with underscores (`train_batch_size`).
        config: in which they are, to tell switches from values.
    """
    flags = []
    for keyword, value in keywords.items():
        key = _key(keyword, config)
        if isinstance(value, bool) and isinstance(_current(key, config), bool):
            group, dot, name = key.rpartition(".")
            flags.append(f"--{key}" if value else f"--{group}{dot}no-{name}")
        elif isinstance(value, list | tuple):
            flags += [f"--{key}", *map(str, value)]
        else:
            flags += [f"--{key}", str(value)]
    return flags


def _key(keyword: str, config: RunConfig) -> str:
    """The command line's spelling: a dot after each group, dashes elsewhere."""
    group, underscore, rest = keyword.partition("_")
    if "." in keyword or not underscore or not is_dataclass(getattr(config, group, None)):
        return keyword.replace("_", "-")
    return f"{group}.{rest.replace('_', '-')}"


def _current(key: str, config: RunConfig) -> Any:
    """The value of a key, None if there is no such key."""
    value: Any = config
    parts = key.replace("-", "_").split(".")
    for number, part in enumerate(parts):
        is_architecture = number == 1 and parts[0] == "model" and not hasattr(value, part)
        value = getattr(value.architecture if is_architecture else value, part, None)
    return value
