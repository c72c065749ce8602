"""k-nearest-neighbour classification of features, as DINO evaluates (arXiv 2104.14294, appendix F.1)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from vitral.errors import UserError

__all__ = ["knn_predictions"]

CHUNK_SIZE = 1024
"""Test images compared with all training images at a time."""


def knn_predictions(
    train: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    test: Float[Tensor, "m d"],
    *,
    ks: Sequence[int],
    num_classes: int,
    temperature: float | None = 0.07,
) -> dict[int, Int64[Tensor, " m"]]:
    """The class with the most votes of the nearest training images by cosine similarity; the first class among equals.

    Args:
        train: features of the training images.
        labels: their classes.
        test: features of the test images.
        ks: numbers of neighbours; if there are fewer training images, all vote.
        num_classes: number of classes.
        temperature: the weight of a vote is exp(similarity / temperature); None: every vote counts 1.

    Returns:
        For each of `ks`, the predicted class of each test image.

    Raises:
        UserError: there are no training images.
    """
    if not len(train):
        raise UserError("there are no images to learn from")
    bank, queries = (F.normalize(features.float(), dim=1) for features in (train, test))
    num_neighbours = min(max(ks), len(bank))
    predicted: dict[int, list[Tensor]] = {k: [] for k in ks}
    for chunk in queries.split(CHUNK_SIZE):
        nearest = (chunk @ bank.T).topk(num_neighbours, dim=1)
        similarity = nearest.values.double()
        # relative to the nearest, so that the largest vote is 1 and none overflows
        votes = (
            torch.ones_like(similarity)
            if temperature is None
            else ((similarity - similarity[:, :1]) / temperature).exp()
        )
        classes = labels[nearest.indices]
        for k in ks:
            counts = torch.zeros(len(chunk), num_classes, dtype=torch.float64)
            counts.scatter_add_(1, classes[:, :k], votes[:, :k])
            predicted[k].append(counts.argmax(1))
    return {k: torch.cat(chunks) if chunks else torch.zeros(0, dtype=torch.int64) for k, chunks in predicted.items()}
