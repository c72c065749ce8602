"""Evaluating a model on data that lists its classes in another order."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vitral.data.sources.source import Labels, Source
from vitral.data.sources.targets import is_number
from vitral.errors import UserError

__all__ = ["RelabelledSource", "relabel"]


@dataclass(frozen=True, kw_only=True, eq=False)
class RelabelledSource:
    """A source with its labels mapped to other classes."""

    source: Source
    classes: tuple[str, ...]
    labels: Labels

    def __len__(self) -> int:
        return len(self.source)

    def stored(self, index: int) -> Path | bytes | Image.Image:
        """See `Source`."""
        return self.source.stored(index)

    def name(self, index: int) -> str:
        """See `Source`."""
        return self.source.name(index)


def relabel(source: Source, classes: tuple[str, ...], *, aliases: Mapping[str, str] | None = None) -> Source:
    """The source with a model's classes, matched by name; the data need not have all of them.

    Args:
        source: the data.
        classes: the model's.
        aliases: from other class names in the data to the model's.

    Raises:
        UserError: the data has a class that the model does not have.
    """
    if source.classes == classes:
        return source
    if is_number(source.labels):  # the column may have another name
        return RelabelledSource(source=source, classes=classes, labels=source.labels)
    names = [(aliases or {}).get(name, name) for name in source.classes]
    unknown = [name for name in names if name not in classes]
    if unknown:
        raise UserError(
            f"the data has {_count_classes(unknown)} that the model does not know, such as {unknown[0]!r}; "
            f"the model's are {_list_names(classes)}"
        )
    mapping = np.array([classes.index(name) for name in names], np.int64)
    if source.labels.ndim == 1:
        return RelabelledSource(source=source, classes=classes, labels=mapping[source.labels])
    labels = np.zeros((len(source), len(classes)), np.float32)
    for column, number in enumerate(mapping):
        labels[:, number] = np.maximum(labels[:, number], source.labels[:, column])  # two names may mean one class
    return RelabelledSource(source=source, classes=classes, labels=labels)


def _count_classes(names: list[str]) -> str:
    return "1 class" if len(names) == 1 else f"{len(names)} classes"


def _list_names(names: tuple[str, ...]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
