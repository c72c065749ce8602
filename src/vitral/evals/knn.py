"""Classification by the nearest neighbours of a representation, as DINO evaluates (arXiv 2104.14294, appendix F.1)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from vitral.errors import UserError

__all__ = ["knn_predictions"]

ROWS = 1024
"""Images that are compared with all others at a time."""


def knn_predictions(
    train: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    test: Float[Tensor, "m d"],
    *,
    ks: Sequence[int],
    num_classes: int,
    temperature: float | None = 0.07,
) -> dict[int, Int64[Tensor, " m"]]:
    """The class that the nearest images vote for, by cosine similarity; of classes with as many votes, the first.

    Args:
        train: representations of the images whose classes are known.
        labels: their classes.
        test: representations of the images to classify.
        ks: numbers of neighbours; where there are not as many, all vote.
        num_classes: classes in all.
        temperature: a neighbour's vote is exp(similarity / temperature); None: one each.

    Returns:
        For each of `ks` the class of each image.

    Raises:
        UserError: there are no images to learn from.
    """
    if not len(train):
        raise UserError("there are no images to learn from")
    bank, queries = (F.normalize(features.float(), dim=1) for features in (train, test))
    most = min(max(ks), len(bank))
    found: dict[int, list[Tensor]] = {k: [] for k in ks}
    for part in queries.split(ROWS):
        nearest = (part @ bank.T).topk(most, dim=1)
        similarity = nearest.values.double()
        # from the nearest on, so that the largest vote is 1 and none overflows
        votes = (
            torch.ones_like(similarity)
            if temperature is None
            else ((similarity - similarity[:, :1]) / temperature).exp()
        )
        classes = labels[nearest.indices]
        for k in ks:
            counts = torch.zeros(len(part), num_classes, dtype=torch.float64)
            counts.scatter_add_(1, classes[:, :k], votes[:, :k])
            found[k].append(counts.argmax(1))
    return {k: torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64) for k, parts in found.items()}
