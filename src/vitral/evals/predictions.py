"""A classifier's predictions on every image of a source."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from vitral.data.batches import UNREADABLE, Batch
from vitral.data.config import DataConfig
from vitral.data.images.preprocess import PixelBatch, Preprocessing
from vitral.data.sources.source import Source
from vitral.distributed.world import SINGLE_PROCESS, World
from vitral.errors import UserError
from vitral.evals.accuracy import Accuracy
from vitral.evals.calibration import calibration
from vitral.evals.loop import check_readable, run_evaluation

__all__ = ["Predictions", "predict_all", "predict_batches"]

Classifier = Callable[[PixelBatch], Float[Tensor, "b classes"]]
"""From images as read to logits."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Predictions on some images: a few numbers per image, far fewer than its logits."""

    truth: Int64[Tensor, " n"]
    """True class of each image."""
    top: Int64[Tensor, "n five"]
    """The five most probable classes, best first; all classes if there are fewer."""
    confidence: Float[Tensor, " n"]
    """Probability of the most probable class."""
    loss: Float[Tensor, " n"]
    """Softmax cross-entropy, in nats."""
    readable: Bool[Tensor, " total"]
    """Whether each image of the source could be read; the tensors above have no row for the others."""
    num_classes: int
    unreadable: tuple[str, ...] = ()
    """One message for each image that could not be read."""

    COLUMNS: ClassVar = ("truth", "top", "confidence", "loss", "readable")
    """Names of the tensors."""

    @classmethod
    def concatenate(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """Concatenates predictions in order.

        Raises:
            UserError: there are none.
        """
        if not parts:
            raise UserError("there are no images to evaluate")
        columns = {name: torch.cat([getattr(part, name) for part in parts]) for name in cls.COLUMNS}
        messages = tuple(message for part in parts for message in part.unreadable)
        return cls(**columns, num_classes=parts[0].num_classes, unreadable=messages)

    def positions(self) -> Int64[Tensor, " n"]:
        """Index in the source of each row's image."""
        return self.readable.nonzero()[:, 0]

    def accuracy(self) -> Accuracy:
        """Metrics over these images.

        Raises:
            UserError: there are no images, or none could be read.
        """
        if not len(self.truth):
            raise UserError(
                f"no image could be read: {self.unreadable[0]}"
                if self.unreadable
                else "there are no images to evaluate"
            )
        hits = self.top == self.truth[:, None]
        return Accuracy(
            num_images=len(self.truth),
            top1=hits[:, 0].float().mean().item(),
            top5=hits.any(1).float().mean().item(),
            loss=self.loss.mean().item(),
            ece=calibration(self.confidence, hits[:, 0]).error,
            truth=self.truth,
            predicted=self.top[:, 0].contiguous(),
            num_classes=self.num_classes,
            unreadable=self.unreadable,
        )


@torch.no_grad()
def predict_batches(predict: Classifier, batches: Iterable[Batch]) -> list[Predictions]:
    """The predictions on each labelled batch."""
    results = []
    for batch in batches:
        readable = batch.labels != UNREADABLE
        logits, truth = predict(batch.images).float().cpu()[readable], batch.labels[readable]
        results.append(
            Predictions(
                truth=truth,
                top=logits.topk(min(5, logits.shape[1])).indices,
                confidence=logits.softmax(1).amax(1),
                loss=F.cross_entropy(logits, truth, reduction="none"),
                readable=readable,
                num_classes=logits.shape[1],
                unreadable=batch.unreadable,
            )
        )
    return results


def predict_all(
    predict: Classifier,
    source: Source,
    *,
    preprocessing: Preprocessing,
    data: DataConfig,
    world: World = SINGLE_PROCESS,
) -> Predictions:
    """The predictions on every image of a source, in order, on every process; called by all processes.

    Raises:
        UserError: an image cannot be read, unless `data.on_error` is skip, or there are no images.
    """
    results = run_evaluation(
        partial(predict_batches, predict), predict, source, preprocessing=preprocessing, data=data, world=world
    )
    predictions = Predictions.concatenate(results)
    check_readable(predictions.unreadable, data)
    return predictions
