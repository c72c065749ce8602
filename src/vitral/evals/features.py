"""Features of every image of a source, one row per image: the input of kNN, linear probes, few-shot and retrieval."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from vitral.data.batches import Batch, readable
from vitral.data.config import DataConfig
from vitral.data.images.preprocess import PixelBatch, Preprocessing
from vitral.data.sources.source import Source
from vitral.distributed.world import SINGLE_PROCESS, World
from vitral.errors import UserError
from vitral.evals.loop import check_readable, run_evaluation

__all__ = ["FeatureSet", "extract_batches", "extract_features"]

Extractor = Callable[[PixelBatch], Float[Tensor, "b d"]]
"""From images as read to features."""


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """Features and labels of some images, in order."""

    features: Float32[Tensor, "n d"]
    labels: Int64[Tensor, " n"]
    """Class of each image."""
    readable: Bool[Tensor, " total"]
    """Whether each image of the source could be read; the tensors above have no row for the others."""
    unreadable: tuple[str, ...] = ()
    """One message for each image that could not be read."""

    COLUMNS: ClassVar = ("features", "labels", "readable")
    """Names of the tensors."""

    @classmethod
    def concatenate(cls, parts: Sequence["FeatureSet"]) -> "FeatureSet":
        """Concatenates features in order.

        Raises:
            UserError: there are none.
        """
        if not parts:
            raise UserError("there are no images to evaluate")
        columns = {name: torch.cat([getattr(part, name) for part in parts]) for name in cls.COLUMNS}
        return cls(**columns, unreadable=tuple(message for part in parts for message in part.unreadable))


@torch.no_grad()
def extract_batches(extract: Extractor, batches: Iterable[Batch]) -> list[FeatureSet]:
    """The features of each labelled batch."""
    results = []
    for batch in batches:
        is_readable = readable(batch.labels)
        features = extract(batch.images).float().cpu()[is_readable]
        results.append(
            FeatureSet(
                features=features, labels=batch.labels[is_readable], readable=is_readable, unreadable=batch.unreadable
            )
        )
    return results


def extract_features(
    extract: Extractor,
    source: Source,
    *,
    preprocessing: Preprocessing,
    data: DataConfig,
    world: World = SINGLE_PROCESS,
) -> FeatureSet:
    """The features of every image of a source, in order, on every process; called by all processes.

    Raises:
        UserError: an image cannot be read, unless `data.on_error` is skip, or there are no images.
    """
    results = run_evaluation(
        partial(extract_batches, extract), extract, source, preprocessing=preprocessing, data=data, world=world
    )
    features = FeatureSet.concatenate(results)
    check_readable(features.unreadable, data)
    return features
