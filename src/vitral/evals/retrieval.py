"""Image retrieval with features: recall@k and mean average precision."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from vitral.data.extra import optional
from vitral.errors import UserError
from vitral.evals.features import FeatureSet

__all__ = ["RECALL_KS", "Retrieval", "average_precision", "build_index", "retrieval", "search_index"]

RECALL_KS = (1, 5, 10)
"""The k of recall@k."""

CHUNK_SIZE = 256
"""Queries whose full rankings are in memory at a time."""


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Metrics of a similarity search, means over queries; accuracies are fractions."""

    num_images: int
    """Queries whose class has an image in the gallery; other queries are left out."""
    recall: dict[int, float]
    """By k: fraction of queries with an image of their class among the k nearest."""
    mean_average_precision: float
    """Mean of the average precision of each query's ranking of the whole gallery."""

    def metrics(self) -> Iterator[tuple[str, float]]:
        """The metrics by name."""
        yield from ((f"recall@{k}", value) for k, value in self.recall.items())
        yield "mAP", self.mean_average_precision


def retrieval(gallery: FeatureSet, queries: FeatureSet, *, ks: Sequence[int] = RECALL_KS) -> Retrieval:
    """Ranks the gallery by cosine similarity to each query; images of the query's class are relevant.

    Args:
        gallery: the images to search, such as the training images.
        queries: other images, such as the test images.
        ks: the k of recall@k.

    Raises:
        UserError: faiss is not installed, or no query has an image of its class in the gallery.
    """
    in_gallery = torch.isin(queries.labels, gallery.labels)
    if not in_gallery.any():
        raise UserError("no image of the queries' classes is in the gallery: search images with the same classes")
    features, labels = queries.features[in_gallery], queries.labels[in_gallery]
    index = build_index(gallery.features)
    firsts, precisions = [], []
    for rows, classes in zip(features.split(CHUNK_SIZE), labels.split(CHUNK_SIZE), strict=True):
        relevant = gallery.labels[search_index(index, rows, k=len(gallery.labels))] == classes[:, None]
        firsts.append(relevant.int().argmax(1))
        precisions.append(average_precision(relevant))
    first = torch.cat(firsts)
    return Retrieval(
        num_images=len(labels),
        recall={k: (first < k).double().mean().item() for k in ks},
        mean_average_precision=torch.cat(precisions).mean().item(),
    )


def build_index(gallery: Float[Tensor, "n d"]) -> Any:
    """An exact faiss index for search by cosine similarity.

    Raises:
        UserError: faiss is not installed.
    """
    faiss = optional("faiss", purpose="retrieval")
    index = faiss.IndexFlatIP(gallery.shape[1])
    index.add(_normalise(gallery))
    return index


def search_index(index: Any, queries: Float[Tensor, "m d"], *, k: int) -> Int64[Tensor, "m k"]:
    """Gallery rows of the k images most similar to each query, the most similar first."""
    return torch.from_numpy(index.search(_normalise(queries), k)[1])


def average_precision(relevant: Bool[Tensor, "m n"]) -> Float64[Tensor, " m"]:
    """Mean of the precision at the rank of every relevant image; each ranking must have a relevant image."""
    ranks = torch.arange(1, relevant.shape[1] + 1, dtype=torch.float64)
    precision = relevant.cumsum(1) / ranks
    return (precision * relevant).sum(1) / relevant.sum(1)


def _normalise(features: Float[Tensor, "n d"]) -> np.ndarray:
    return F.normalize(features.float(), dim=1).contiguous().numpy()
