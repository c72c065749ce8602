"""Holding out a share of every class."""

import numpy as np
from jaxtyping import Int64

from vitral.errors import UserError

__all__ = ["stratified"]


def stratified(
    labels: Int64[np.ndarray, " n"], classes: tuple[str, ...], *, share: float, seed: int
) -> tuple[Int64[np.ndarray, " kept"], Int64[np.ndarray, " held_out"]]:
    """Splits images so that each class gives the same share: round(share * count), and at least one to each side.

    The draw depends on the seed and on each class's own images alone, and stays the same from one version of
    NumPy to the next: it uses the generator's raw bits, not its shuffle.

    Args:
        labels: class of each image.
        classes: names of the classes; one without images is left out.
        share: part to hold out, between 0 and 1.
        seed: at least 0.

    Returns:
        Indices kept and indices held out, both ascending.

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
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        order = np.argsort(np.random.PCG64([seed, label]).random_raw(len(members)), kind="stable")
        held_out[members[order[:count]]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
