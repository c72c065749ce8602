"""Stratified splitting: holds out the same fraction of every class."""

import numpy as np
from jaxtyping import Int64

from vitral.errors import UserError

__all__ = ["stratified_split"]


def stratified_split(
    labels: Int64[np.ndarray, " n"], classes: tuple[str, ...], *, fraction: float, seed: int
) -> tuple[Int64[np.ndarray, " rest"], Int64[np.ndarray, " held_out"]]:
    """Holds out round(fraction * count) images of each class, at least one, and leaves at least one.

    The sampling depends only on the seed and on each class's own images, and does not change between versions of
    NumPy: it uses the generator's raw bits, not its shuffle.

    Args:
        labels: class of each image.
        classes: names of the classes; classes without images are skipped.
        fraction: of each class to hold out, between 0 and 1.
        seed: at least 0.

    Returns:
        Indices of the remaining and of the held-out images, both ascending.

    Raises:
        UserError: a class has only one image.
    """
    held_out = np.zeros(len(labels), bool)
    by_class = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[by_class], np.arange(len(classes) + 1))
    for label, name in enumerate(classes):
        members = by_class[ends[label] : ends[label + 1]]
        if len(members) == 0:
            continue
        if len(members) == 1:
            raise UserError(
                f"class {name!r} has a single image, so none can be held out: "
                f"add images to it, or give the data a test split of its own"
            )
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        order = np.argsort(np.random.PCG64([seed, label]).random_raw(len(members)), kind="stable")
        held_out[members[order[:count]]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
