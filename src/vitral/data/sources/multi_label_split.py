"""Splitting images with several labels: holds out nearly the same fraction of every label."""

import numpy as np
from jaxtyping import Float32, Int64

from vitral.errors import UserError

__all__ = ["multi_label_split"]


def multi_label_split(
    labels: Float32[np.ndarray, "n k"], *, fraction: float, seed: int
) -> tuple[Int64[np.ndarray, " rest"], Int64[np.ndarray, " held_out"]]:
    """Iterative stratification (Sechidis et al. 2011, "On the stratification of multi-label data"), in two parts.

    The rarest label is divided first. Of a label with at least two images, one is left at least; one is held out too,
    unless images that were divided before it prevent that. Images without labels are divided last.

    Args:
        labels: 1 for each label of each image, 0 for the others.
        fraction: of each label to hold out, between 0 and 1.
        seed: at least 0; the result depends on nothing else.

    Returns:
        Indices of the remaining and of the held-out images, both ascending.

    Raises:
        UserError: there are fewer than two images.
    """
    count = len(labels)
    if count < 2:
        raise UserError("the data has a single image, so none can be held out: add images to it")
    has = np.concatenate([labels > 0, ~labels.any(1, keepdims=True)], axis=1)  # no label is a label too
    order = np.argsort(np.random.PCG64(seed).random_raw(count), kind="stable")
    total = has.sum(0)
    wanted = np.where(total > 1, np.maximum(fraction * total, 1), 0.0)
    room = round(min(max(fraction * count, 1), count - 1))
    held_out, undecided = np.zeros(count, bool), np.ones(count, bool)
    undivided, kept = total.copy(), total.copy()
    while undecided.any():
        label = int(np.where(undivided > 0, undivided, count + 1).argmin())
        for image in order[has[order, label] & undecided[order]]:
            mine = has[image]
            undecided[image] = False
            undivided -= mine
            # the last image of a label stays, so that it can be learned
            if room and wanted[label] >= 0.5 and (kept[mine] > 1).all():
                held_out[image] = True
                wanted -= mine
                kept -= mine
                room -= 1
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)
