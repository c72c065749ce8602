"""Retrieval by representations: does a query find images of its own class first?"""

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

__all__ = ["CUTS", "Retrieval", "average_precision", "index_of", "nearest", "retrieval"]

CUTS = (1, 5, 10)
"""Of how many found images recall is told."""

QUERIES = 256
"""Queries whose whole rankings are held at a time."""


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """What a search by similarity finds; shares are means over the queries that have something to find."""

    num_images: int
    """Queries whose class has an image in the gallery; others have nothing to find and do not count."""
    recall: dict[int, float]
    """By k: share of queries with an image of their class among the k nearest."""
    mean_average_precision: float
    """Mean over queries of the average precision of the whole gallery's ranking."""

    def metrics(self) -> Iterator[tuple[str, float]]:
        """The figures by name."""
        yield from ((f"recall@{k}", value) for k, value in self.recall.items())
        yield "mAP", self.mean_average_precision


def retrieval(gallery: FeatureSet, queries: FeatureSet, *, cuts: Sequence[int] = CUTS) -> Retrieval:
    """Searches a gallery for images of each query's class, by cosine similarity.

    Args:
        gallery: what is searched, such as the training images.
        queries: what is searched for, such as the test images; none of them is in the gallery.
        cuts: numbers of nearest images to tell recall of.

    Raises:
        UserError: faiss is not installed, or no query has an image of its class in the gallery.
    """
    there = torch.isin(queries.labels, gallery.labels)
    if not there.any():
        raise UserError("no image of the queries' classes is in the gallery: search images with the same classes")
    asked, truth = queries.features[there], queries.labels[there]
    index = index_of(gallery.features)
    firsts, precisions = [], []
    for rows, classes in zip(asked.split(QUERIES), truth.split(QUERIES), strict=True):
        relevant = gallery.labels[nearest(index, rows, k=len(gallery.labels))] == classes[:, None]
        firsts.append(relevant.int().argmax(1))
        precisions.append(average_precision(relevant))
    first = torch.cat(firsts)
    return Retrieval(
        num_images=len(truth),
        recall={k: (first < k).double().mean().item() for k in cuts},
        mean_average_precision=torch.cat(precisions).mean().item(),
    )


def index_of(gallery: Float[Tensor, "n d"]) -> Any:
    """An exact index of faiss for searches by cosine similarity.

    Raises:
        UserError: faiss is not installed.
    """
    faiss = optional("faiss", purpose="retrieval")
    index = faiss.IndexFlatIP(gallery.shape[1])
    index.add(_unit(gallery))
    return index


def nearest(index: Any, queries: Float[Tensor, "m d"], *, k: int) -> Int64[Tensor, "m k"]:
    """Rows of an index's gallery by falling cosine similarity to each query."""
    return torch.from_numpy(index.search(_unit(queries), k)[1])


def average_precision(relevant: Bool[Tensor, "m n"]) -> Float64[Tensor, " m"]:
    """Mean of the precision at the place of every relevant image; each ranking has one at least."""
    places = torch.arange(1, relevant.shape[1] + 1, dtype=torch.float64)
    precision = relevant.cumsum(1) / places
    return (precision * relevant).sum(1) / relevant.sum(1)


def _unit(features: Float[Tensor, "n d"]) -> np.ndarray:
    return F.normalize(features.float(), dim=1).contiguous().numpy()
