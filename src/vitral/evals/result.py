"""The interface of an evaluation's result."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

__all__ = ["EvalResult"]


@runtime_checkable
class EvalResult(Protocol):
    """The metrics of one evaluation."""

    @property
    def unreadable(self) -> tuple[str, ...]:
        """One error message for each image that could not be read."""
        ...

    def metrics(self) -> Iterator[tuple[str, float]]:
        """Name and value of each metric."""
        ...

    def headline(self) -> str:
        """The most important metrics in a few words."""
        ...
