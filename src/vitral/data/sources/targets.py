"""Labels of any kind of target: counted, shown, and divided into strata for a split."""

import numpy as np
from jaxtyping import Int64

from vitral.data.sources.group_split import group_split
from vitral.data.sources.multi_label_split import multi_label_split
from vitral.data.sources.source import Labels, Source
from vitral.data.sources.splits import stratified_split

__all__ = ["NUM_STRATA", "is_multi_label", "is_number", "label_counts", "label_text", "split_targets", "strata"]

NUM_STRATA = 10
"""Parts of equal size that numbers are divided into, so that every split has small and large ones."""


def is_number(labels: Labels) -> bool:
    """Whether images have a number to learn."""
    return labels.ndim == 2 and labels.shape[1] == 1


def is_multi_label(labels: Labels) -> bool:
    """Whether images have any number of labels."""
    return labels.ndim == 2 and not is_number(labels)


def label_counts(source: Source) -> Int64[np.ndarray, " classes"]:
    """Number of images with each class or label; of numbers, of all images."""
    if source.labels.ndim == 1:
        return np.bincount(source.labels, minlength=len(source.classes))
    return np.array([len(source)]) if is_number(source.labels) else source.labels.sum(0).astype(np.int64)


def label_text(source: Source, index: int) -> str:
    """The class, the labels or the number of image `index` in words; empty if the data has no classes."""
    label = source.labels[index]
    if not source.classes:
        return ""
    if source.labels.ndim == 1:
        return source.classes[label]
    if is_number(source.labels):
        return f"{label[0]:.6g}"
    return ", ".join(source.classes[number] for number in np.flatnonzero(label)) or "no label"


def split_targets(
    source: Source, groups: Int64[np.ndarray, " n"] | None, *, fraction: float, seed: int
) -> tuple[Int64[np.ndarray, " rest"], Int64[np.ndarray, " held_out"]]:
    """Holds out the same fraction of every class or label, or of every size of number, in whole groups if given.

    Returns:
        Indices of the remaining and of the held-out images, both ascending.

    Raises:
        UserError: see `stratified_split` and `group_split`.
    """
    labels = source.labels
    if is_multi_label(labels):
        if groups is None:
            return multi_label_split(labels, fraction=fraction, seed=seed)
        return _grouped_label_sets(labels, groups, fraction=fraction, seed=seed)
    if groups is not None:
        return group_split(strata(labels), groups, fraction=fraction, seed=seed)
    names = source.classes if labels.ndim == 1 else tuple(map(str, range(NUM_STRATA)))
    return stratified_split(strata(labels), names, fraction=fraction, seed=seed)


def strata(labels: Labels, *, most: int = NUM_STRATA) -> Int64[np.ndarray, " n"]:
    """What each split has the same fraction of: classes, or at most so many parts of equal size of numbers, by rank."""
    if not is_number(labels):
        return labels
    count = min(most, max(len(labels) // NUM_STRATA, 1))
    ranks = np.argsort(np.argsort(labels[:, 0], kind="stable"), kind="stable")
    return ranks * count // len(labels)


def _grouped_label_sets(
    labels: Labels, groups: Int64[np.ndarray, " n"], *, fraction: float, seed: int
) -> tuple[Int64[np.ndarray, " rest"], Int64[np.ndarray, " held_out"]]:
    """As `group_split`, with each image once for each of its labels; those without any are a class of their own."""
    padded = np.concatenate([labels, ~labels.any(1, keepdims=True)], axis=1)
    image, label = np.nonzero(padded)
    held_out = group_split(label, groups[image], fraction=fraction, seed=seed)[1]
    is_held_out = np.isin(groups, groups[image[held_out]])
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
