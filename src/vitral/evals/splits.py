"""Which split a run evaluates, during training and at its end."""

from collections.abc import Mapping

from vitral.data.sources.source import Source

__all__ = ["final_split", "running_split"]


def running_split(data: Mapping[str, Source]) -> str:
    """The split evaluated during training: validation if there is one, else test."""
    return "val" if "val" in data else "test"


def final_split(data: Mapping[str, Source]) -> str:
    """The split reported at the end: test if there is one, else validation."""
    return "test" if "test" in data else "val"
