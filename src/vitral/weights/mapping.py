"""A foreign format as a table of names and shapes, read in both directions."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "CONV",
    "DENSE",
    "SAME",
    "WITHOUT_CLS",
    "Codec",
    "Row",
    "from_theirs",
    "heads_in",
    "heads_out",
    "heads_vector",
    "to_theirs",
]


@dataclass(frozen=True)
class Codec:
    """How one array is shaped here and there; writing undoes reading."""

    read: Callable[[Tensor], Tensor]
    write: Callable[[Tensor], Tensor]


SAME = Codec(lambda theirs: theirs, lambda ours: ours)
DENSE = Codec(lambda theirs: theirs.T, lambda ours: ours.T)
"""Inputs first, as Flax has them."""
CONV = Codec(lambda theirs: theirs.permute(3, 2, 0, 1), lambda ours: ours.permute(2, 3, 1, 0))
"""Height, width, inputs, outputs, as Flax has them."""

WITHOUT_CLS = Codec(
    lambda theirs: torch.cat([torch.zeros_like(theirs[:, :1]), theirs], dim=1), lambda ours: ours[:, 1:]
)
"""Some formats' positions have no row for the class token, whose own vector holds it."""


def heads_in(heads: int) -> Codec:
    """A projection into heads: (inputs, heads, width of a head)."""
    return Codec(lambda theirs: theirs.flatten(1).T, lambda ours: ours.T.unflatten(1, (heads, -1)))


def heads_vector(heads: int) -> Codec:
    """Its bias: (heads, width of a head)."""
    return Codec(lambda theirs: theirs.flatten(), lambda ours: ours.unflatten(0, (heads, -1)))


def heads_out(heads: int) -> Codec:
    """The projection out of heads: (heads, width of a head, outputs)."""
    return Codec(lambda theirs: theirs.flatten(0, 1).T, lambda ours: ours.T.unflatten(0, (heads, -1)))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One tensor of ours and what it is made of."""

    ours: str
    """Name in a model's state."""
    theirs: tuple[str, ...]
    """Names in the file; several are stacked along the first axis of ours."""
    codec: Codec = SAME
    """Of each of them."""


def from_theirs(rows: Iterable[Row], arrays: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """Turns a file's arrays into ours.

    Returns:
        Our tensors by name, names of theirs that are missing, and names of theirs that no row takes.
    """
    state, missing, unused = {}, [], set(arrays)
    for row in rows:
        absent = [name for name in row.theirs if name not in arrays]
        unused -= set(row.theirs)
        if absent:
            missing += absent
            continue
        parts = [row.codec.read(arrays[name]) for name in row.theirs]
        state[row.ours] = parts[0] if len(parts) == 1 else torch.cat(parts)
    return state, missing, sorted(unused)


def to_theirs(rows: Iterable[Row], state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Turns our tensors into a file's arrays.

    Returns:
        Their arrays by name, and names of ours that the format has no place for, or needs and does not get.
    """
    arrays, lost = {}, set(state)
    for row in rows:
        if row.ours not in state:
            lost.add(row.ours)
            continue
        lost.discard(row.ours)
        for name, part in zip(row.theirs, state[row.ours].chunk(len(row.theirs)), strict=True):
            arrays[name] = row.codec.write(part).contiguous()
    return arrays, sorted(lost)
