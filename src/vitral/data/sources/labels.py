"""Encodes classes, stored as numbers or words, as labels with class names."""

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int64

from vitral.data.notes import note_once
from vitral.errors import UserError

__all__ = ["canonical_form", "encode_labels", "similar_class"]


def encode_labels(
    raw: Mapping[str, np.ndarray], *, names: tuple[str, ...], origin: str
) -> tuple[tuple[str, ...], dict[str, Int64[np.ndarray, " n"]]]:
    """Names of the classes, and the labels of each split.

    Args:
        raw: for each split, one integer or one word per image.
        names: names of the classes in the order of their numbers; empty: the sorted words, or the sorted numbers that
            occur.
        origin: name of the data in errors.

    Raises:
        UserError: another split has a class that "train" lacks, or a number has no name or is negative.
    """
    if raw["train"].dtype.kind not in "iu":
        return _indexed(raw, names or tuple(np.unique(raw["train"]).tolist()), origin)
    if not names and min(int(labels.min()) for labels in raw.values()) >= 0:
        numbers = np.unique(raw["train"]).tolist()
        if numbers != list(range(len(numbers))):
            note_once(
                f"{origin} has {len(numbers)} classes with the numbers {_listed(numbers)}; other numbers are absent"
            )
        return tuple(map(str, numbers)), _indexed(raw, tuple(numbers), origin)[1]
    names = names or tuple(str(number) for number in range(int(raw["train"].max()) + 1))
    for split, labels in raw.items():
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= len(names):
            raise UserError(
                f"{origin} has the label {low if low < 0 else high} in its {split} images, but its classes are 0 to "
                f"{len(names) - 1}: name every class with --data.class-names, or choose splits with --data.splits"
            )
    return names, {split: labels.astype(np.int64) for split, labels in raw.items()}


def _listed(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:6]))
    return shown if len(numbers) <= 6 else f"{shown} ... {numbers[-1]}"


def _indexed(
    raw: Mapping[str, np.ndarray], names: tuple[Any, ...], origin: str
) -> tuple[tuple[Any, ...], dict[str, Int64[np.ndarray, " n"]]]:
    """Replaces each word or number by its index in `names`."""
    numbers = {name: number for number, name in enumerate(names)}
    for split, labels in raw.items():
        unknown = sorted(set(np.unique(labels).tolist()) - set(numbers))
        if unknown:
            similar = similar_class(str(unknown[0]), map(str, names))
            advice = f": rename it to {similar!r}" if similar else ""
            raise UserError(
                f"{origin} has the class {unknown[0]!r} in its {split} images, which the training images lack{advice}"
            )
    return names, {
        split: np.fromiter((numbers[name] for name in labels.tolist()), np.int64, len(labels))
        for split, labels in raw.items()
    }


def canonical_form(name: str) -> str:
    """What is left of a class's name without case, surplus spaces and Unicode form."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def similar_class(name: str, classes: Iterable[str]) -> str | None:
    """The class that differs from `name` only in case, spaces or Unicode form, if there is one."""
    form = canonical_form(name)
    return next((other for other in classes if canonical_form(other) == form), None)
