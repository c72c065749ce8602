"""What a model makes of labelled images, one row an image: what probes learn from."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from torch import Tensor

from vitral.data.batches import UNREADABLE, Batch
from vitral.errors import UserError

__all__ = ["FeatureSet", "extract_batches"]


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """FeatureSet of some images, in their order."""

    features: Float32[Tensor, "n d"]
    labels: Int64[Tensor, " n"]
    """Class of each image."""
    readable: Bool[Tensor, " asked"]
    """Of each image that was asked for, whether it could be read; the others have no row above."""
    unreadable: tuple[str, ...] = ()
    """One sentence for each image that could not be read."""

    COLUMNS: ClassVar = ("features", "labels", "readable")

    @classmethod
    def concatenate(cls, parts: Sequence["FeatureSet"]) -> "FeatureSet":
        """All parts as one, in their order.

        Raises:
            UserError: there are none.
        """
        if not parts:
            raise UserError("there are no images to evaluate")
        columns = {name: torch.cat([getattr(part, name) for part in parts]) for name in cls.COLUMNS}
        return cls(**columns, unreadable=tuple(sentence for part in parts for sentence in part.unreadable))


@torch.no_grad()
def extract_batches(
    encode: Callable[[UInt8[Tensor, "b h w c"]], Float[Tensor, "b d"]], batches: Iterable[Batch]
) -> list[FeatureSet]:
    """Encodes labelled batches, each an entry of the result.

    Args:
        encode: from images as read to their representations.
        batches: every image once.
    """
    parts = []
    for batch in batches:
        readable = batch.labels != UNREADABLE
        features = encode(batch.images).float().cpu()[readable]
        parts.append(
            FeatureSet(features=features, labels=batch.labels[readable], readable=readable, unreadable=batch.unreadable)
        )
    return parts
