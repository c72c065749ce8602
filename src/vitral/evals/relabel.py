"""Evaluating a model on data that lists its classes in another order."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from PIL import Image

from vitral.data.sources.source import Source
from vitral.errors import UserError

__all__ = ["Relabelled", "relabel"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Relabelled:
    """Another source, its labels counted in the order of `classes`."""

    source: Source
    classes: tuple[str, ...]
    labels: Int64[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.source)

    def stored(self, index: int) -> Path | bytes | Image.Image:
        """See `Source`."""
        return self.source.stored(index)

    def name(self, index: int) -> str:
        """See `Source`."""
        return self.source.name(index)


def relabel(source: Source, classes: tuple[str, ...], *, aliases: Mapping[str, str] | None = None) -> Source:
    """The source with a model's classes, matched by name; the data may lack some of them.

    Args:
        source: the data.
        classes: the model's.
        aliases: the model's class behind other names that data may have for it.

    Raises:
        UserError: the data has a class that the model does not know.
    """
    if source.classes == classes:
        return source
    names = [(aliases or {}).get(name, name) for name in source.classes]
    unknown = [name for name in names if name not in classes]
    if unknown:
        raise UserError(
            f"the data has {_counted(unknown)} that the model does not know, such as {unknown[0]!r}; "
            f"the model's are {_listed(classes)}"
        )
    places = np.array([classes.index(name) for name in names], np.int64)
    return Relabelled(source=source, classes=classes, labels=places[source.labels])


def _counted(names: list[str]) -> str:
    return "1 class" if len(names) == 1 else f"{len(names)} classes"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
