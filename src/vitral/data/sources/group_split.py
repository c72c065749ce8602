"""Splitting by groups: holds out whole groups of images, and nearly the same fraction of every class."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from vitral.errors import UserError

__all__ = ["group_split"]

MAX_ATTEMPTS = 32
"""Random orders of the groups that are tried."""

MAX_MOVES = 200
"""Groups that are moved to the other side at most, each time the one that helps most."""

BUDGET = 20_000_000
"""Pairs of a group and a class that are visited at most: with many, the first order is near enough."""


@dataclass(frozen=True, kw_only=True)
class _Counts:
    """How many images of each class each group has: pairs of a group and a class, sorted by group."""

    group: Int64[np.ndarray, " pairs"]
    label: Int64[np.ndarray, " pairs"]
    count: Int64[np.ndarray, " pairs"]
    starts: Int64[np.ndarray, " groups_1"]
    """First pair of each group, and the number of pairs."""


@dataclass(frozen=True, kw_only=True)
class _Targets:
    """What a good split holds out of each class."""

    total: Float[np.ndarray, " classes"]
    """Number of images."""
    wanted: Float[np.ndarray, " classes"]
    """Number of images to hold out."""
    if_none: Float[np.ndarray, " classes"]
    """Cost of holding out none: 0 if the class is in one group only, else more than all deviations."""
    if_all: float
    """Cost of leaving none: more than all other costs."""

    def cost(self, held_out: Float[np.ndarray, " *n"], label: Int64[np.ndarray, " *n"]) -> Float[np.ndarray, " *n"]:
        """Cost of holding out so many images of each of these classes."""
        total = self.total[label]
        deviation = (held_out - self.wanted[label]) ** 2 / np.maximum(total, 1)
        return deviation + self.if_none[label] * (held_out == 0) + self.if_all * ((held_out == total) & (total > 0))


def group_split(
    labels: Int64[np.ndarray, " n"],
    groups: Int64[np.ndarray, " n"],
    *,
    fraction: float,
    seed: int,
) -> tuple[Int64[np.ndarray, " rest"], Int64[np.ndarray, " held_out"]]:
    """Holds out whole groups of images, as near to `fraction` of each class as the groups allow.

    At least one image of each class is left, and one held out where the groups allow it: none of a class whose images
    are all in one group. The result depends only on the seed and on the groups, in the order of their numbers.

    Args:
        labels: class of each image.
        groups: number of each image's group.
        fraction: of each class to hold out, between 0 and 1.
        seed: at least 0.

    Returns:
        Indices of the remaining and of the held-out images, both ascending.

    Raises:
        UserError: every group has all images of some class.
    """
    group_of = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    counts, sizes = _count(group_of, labels), np.bincount(group_of)
    targets = _targets(counts, int(labels.max()) + 1, fraction)
    num_attempts = max(1, min(MAX_ATTEMPTS, BUDGET // (MAX_MOVES * len(counts.count))))
    attempts = [_attempt(counts, sizes, targets, fraction, [seed, number]) for number in range(num_attempts)]
    chosen = min(attempts, key=lambda attempt: attempt[0])[1]  # the first of equal ones
    if not chosen.any():
        raise UserError(
            f"each of the {len(sizes):,} groups has all images of some class, so none can be held out: change the "
            "groups, or give the data a test split of its own"
        )
    held_out = chosen[group_of]
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _count(group_of: Int64[np.ndarray, " n"], labels: Int64[np.ndarray, " n"]) -> _Counts:
    num_classes = int(labels.max()) + 1
    pairs, count = np.unique(group_of * num_classes + labels, return_counts=True)
    group = pairs // num_classes
    starts = np.searchsorted(group, np.arange(int(group_of.max()) + 2))
    return _Counts(group=group, label=pairs % num_classes, count=count.astype(np.int64), starts=starts)


def _targets(counts: _Counts, num_classes: int, fraction: float) -> _Targets:
    total = np.bincount(counts.label, counts.count, num_classes)
    worst = float(total.sum()) + 1
    num_groups = np.bincount(counts.label, minlength=num_classes)
    return _Targets(
        total=total,
        wanted=fraction * total,
        if_none=np.where(num_groups > 1, worst, 0.0),
        if_all=worst * (num_classes + 1),
    )


def _attempt(
    counts: _Counts, sizes: Int64[np.ndarray, " groups"], targets: _Targets, fraction: float, seed: list[int]
) -> tuple[float, Bool[np.ndarray, " groups"]]:
    """Chooses groups in a random order, and improves the choice; returns its cost, and which groups are held out."""
    keys = np.random.PCG64(seed).random_raw(len(sizes))
    chosen = np.zeros(len(sizes), bool)
    _choose_large(counts, np.flatnonzero(sizes > 1), keys, fraction, chosen)
    _fill_with_single(counts, np.flatnonzero(sizes == 1), keys, targets, chosen)
    for _ in range(min(MAX_MOVES, BUDGET // len(counts.count))):
        change = _change_of_cost(counts, targets, chosen)
        best = int(change.argmin())
        if change[best] > -1e-9:
            break
        chosen[best] = not chosen[best]
    held_out = _held_out(counts, targets, chosen)
    return float(targets.cost(held_out, np.arange(len(held_out))).sum()), chosen


def _choose_large(
    counts: _Counts,
    large: Int64[np.ndarray, " large"],
    keys: np.ndarray,
    fraction: float,
    chosen: Bool[np.ndarray, " groups"],
) -> None:
    """Chooses groups of several images while that brings the held-out fraction of these images nearer."""
    starts, label, count = counts.starts.tolist(), counts.label.tolist(), counts.count.tolist()
    num_classes = max(label) + 1
    total = [0] * num_classes
    for group in large.tolist():
        for pair in range(starts[group], starts[group + 1]):
            total[label[pair]] += count[pair]
    short = [fraction * number for number in total]
    for group in large[np.argsort(keys[large], kind="stable")].tolist():
        pairs = range(starts[group], starts[group + 1])
        gain = sum((2 * short[label[pair]] - count[pair]) * count[pair] / total[label[pair]] for pair in pairs)
        if gain > 0:
            chosen[group] = True
            for pair in pairs:
                short[label[pair]] -= count[pair]


def _fill_with_single(
    counts: _Counts,
    single: Int64[np.ndarray, " single"],
    keys: np.ndarray,
    targets: _Targets,
    chosen: Bool[np.ndarray, " groups"],
) -> None:
    """Chooses as many groups of one image as each class still lacks."""
    labels = counts.label[counts.starts[single]]
    lacking = np.round(targets.wanted - _held_out(counts, targets, chosen))
    order = np.lexsort((keys[single], labels))
    ends = np.searchsorted(labels[order], np.arange(len(lacking) + 1))
    for start, end, number in zip(ends[:-1], ends[1:], lacking, strict=True):
        chosen[single[order[start : min(end, start + max(int(number), 0))]]] = True


def _held_out(counts: _Counts, targets: _Targets, chosen: Bool[np.ndarray, " groups"]) -> Float[np.ndarray, " classes"]:
    """Number of images held out of each class."""
    return np.bincount(counts.label, counts.count * chosen[counts.group], len(targets.total))


def _change_of_cost(
    counts: _Counts, targets: _Targets, chosen: Bool[np.ndarray, " groups"]
) -> Float[np.ndarray, " groups"]:
    """How much the cost rises if each group, alone, moves to the other side."""
    held_out = _held_out(counts, targets, chosen)[counts.label]
    moved = held_out + np.where(chosen[counts.group], -counts.count, counts.count)
    change = targets.cost(moved, counts.label) - targets.cost(held_out, counts.label)
    return np.add.reduceat(change, counts.starts[:-1])
