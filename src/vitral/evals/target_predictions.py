"""A model's outputs on every image of a source whose images have several labels, or a number."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from vitral.data.batches import Batch, readable
from vitral.data.config import DataConfig
from vitral.data.images.preprocess import PixelBatch, Preprocessing
from vitral.data.sources.source import Source
from vitral.distributed.world import SINGLE_PROCESS, World
from vitral.errors import UserError
from vitral.evals.loop import check_readable, run_evaluation

__all__ = ["TargetPredictions", "predict_target_batches", "predict_targets"]


@dataclass(frozen=True, kw_only=True)
class TargetPredictions:
    """Outputs and truth of some images."""

    truth: Float32[Tensor, "n k"]
    """1 for each label of an image and 0 for the others, or its number."""
    outputs: Float32[Tensor, "n k"]
    """The model's logit of each label, or its number."""
    readable: Bool[Tensor, " total"]
    """Whether each image of the source could be read; the tensors above have no row for the others."""
    unreadable: tuple[str, ...] = ()
    """One message for each image that could not be read."""

    COLUMNS: ClassVar = ("truth", "outputs", "readable")
    """Names of the tensors."""

    @classmethod
    def concatenate(cls, parts: Sequence["TargetPredictions"]) -> "TargetPredictions":
        """Concatenates predictions in order.

        Raises:
            UserError: there are none, or no image could be read.
        """
        if not parts:
            raise UserError("there are no images to evaluate")
        columns = {name: torch.cat([getattr(part, name) for part in parts]) for name in cls.COLUMNS}
        messages = tuple(message for part in parts for message in part.unreadable)
        if not len(columns["truth"]):
            raise UserError(f"no image could be read: {messages[0]}")
        return cls(**columns, unreadable=messages)

    def positions(self) -> Int64[Tensor, " n"]:
        """Index in the source of each row's image."""
        return self.readable.nonzero()[:, 0]


@torch.no_grad()
def predict_target_batches(
    predict: Callable[[PixelBatch], Tensor], batches: Iterable[Batch]
) -> list[TargetPredictions]:
    """The outputs for each batch with its targets."""
    results = []
    for batch in batches:
        is_readable = readable(batch.labels)
        results.append(
            TargetPredictions(
                truth=batch.labels[is_readable],
                outputs=predict(batch.images).float().cpu()[is_readable],
                readable=is_readable,
                unreadable=batch.unreadable,
            )
        )
    return results


def predict_targets(
    predict: Callable[[PixelBatch], Tensor],
    source: Source,
    *,
    preprocessing: Preprocessing,
    data: DataConfig,
    world: World = SINGLE_PROCESS,
) -> TargetPredictions:
    """The outputs for every image of a source, in order, on every process; called by all processes.

    Args:
        predict: from images as read to logits or numbers (b k).
        source: the images.
        preprocessing: how images are resized.
        data: how images are read.
        world: the processes.

    Raises:
        UserError: an image cannot be read, unless `data.on_error` is skip, or there are no images.
    """
    process = partial(predict_target_batches, predict)
    results = run_evaluation(process, predict, source, preprocessing=preprocessing, data=data, world=world)
    messages = tuple(message for part in results for message in part.unreadable)
    check_readable(messages, data)
    return TargetPredictions.concatenate(results)
