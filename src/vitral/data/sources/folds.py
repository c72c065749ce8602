"""Folds of cross-validation: parts of the training images, each of which is the validation images of one run."""

import numpy as np
from jaxtyping import Int64

from vitral.data.sources.source import Source, Subset
from vitral.data.sources.targets import NUM_STRATA, is_multi_label, label_counts, split_targets, strata
from vitral.errors import UserError

__all__ = ["assign_folds"]


def assign_folds(
    source: Source, groups: Int64[np.ndarray, " n"] | None, *, folds: int, seed: int
) -> Int64[np.ndarray, " n"]:
    """The fold of each image, from 0: each has the same fraction of every class, label or size of number.

    Args:
        source: the training images.
        groups: group of each image, which has one fold.
        folds: number of parts, at least 2.
        seed: at least 0; the result depends on nothing else.

    Raises:
        UserError: a class has fewer images than there are folds, there are fewer images or groups than folds, or one
            fold would have all images of a class.
    """
    _check_counts(source, groups, folds)
    if is_multi_label(source.labels):
        return _one_after_another(source, groups, folds=folds, seed=seed)
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold  # takes a second to import

    splitter = StratifiedKFold if groups is None else StratifiedGroupKFold
    targets = strata(source.labels, most=min(NUM_STRATA, len(source) // folds))  # each with an image for every fold
    assigned = np.zeros(len(source), np.int64)
    parts = splitter(folds, shuffle=True, random_state=seed % 2**32).split(targets, targets, groups)
    for fold, (_, held_out) in enumerate(parts):
        assigned[held_out] = fold
    if groups is not None:
        _check_groups(source, assigned, folds)
    return assigned


def _check_counts(source: Source, groups: Int64[np.ndarray, " n"] | None, folds: int) -> None:
    """Raises UserError if there is too little of something for so many folds."""
    counts = label_counts(source)
    if source.labels.ndim == 1:
        rare = np.where(counts > 0, counts, len(source) + 1).argmin()
        if 0 < counts[rare] < folds:
            raise UserError(
                f"class {source.classes[rare]!r} has {counts[rare]} training images, fewer than {folds} folds: choose "
                f"fewer folds, or add images to it"
            )
    if len(source) < folds:
        raise UserError(f"the data has {len(source)} training images, fewer than {folds} folds: choose fewer folds")
    if groups is not None and (num_groups := len(np.unique(groups))) < folds:
        raise UserError(
            f"the training images are in {num_groups} groups, fewer than {folds} folds: choose fewer folds, or smaller "
            "groups"
        )


def _check_groups(source: Source, assigned: Int64[np.ndarray, " n"], folds: int) -> None:
    """Raises UserError if a fold has no images, or all images of a class."""
    if len(np.unique(assigned)) < folds:
        raise UserError(f"the groups are too unequal for {folds} folds: choose fewer folds, or smaller groups")
    if source.labels.ndim > 1:
        return
    counts = label_counts(source)
    for fold in range(folds):
        held_out = label_counts(Subset(source=source, indices=np.flatnonzero(assigned == fold)))
        if len(whole := np.flatnonzero((counts > 0) & (held_out == counts))):
            raise UserError(
                f"class {source.classes[whole[0]]!r} has too few groups: one fold has all of its images, and none are "
                "left to train on; choose fewer folds, smaller groups, or add images to it"
            )


def _one_after_another(
    source: Source, groups: Int64[np.ndarray, " n"] | None, *, folds: int, seed: int
) -> Int64[np.ndarray, " n"]:
    """Holds each fold out of the images that are left; scikit-learn does not stratify images with several labels."""
    assigned = np.full(len(source), folds - 1, np.int64)
    left = np.arange(len(source))
    for fold in range(folds - 1):
        rest, held_out = split_targets(
            Subset(source=source, indices=left),
            None if groups is None else groups[left],
            fraction=1 / (folds - fold),
            seed=seed,
        )
        assigned[left[held_out]] = fold
        left = left[rest]
    return assigned
