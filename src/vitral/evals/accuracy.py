"""What a classifier is worth on labelled images: accuracy, loss, calibration, confusion."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from vitral.data.batches import UNREADABLE, Batch
from vitral.errors import UserError
from vitral.evals.calibration import calibration

__all__ = ["Accuracy", "Predictions", "measure", "predict_batches"]


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """The measures of one evaluation; shares are fractions of the images that could be read."""

    num_images: int
    top1: float
    """Share with the true class on top."""
    top5: float
    """Share with the true class among the five most probable; all, where there are no more than five classes."""
    loss: float
    """Mean softmax cross-entropy, in nats."""
    ece: float
    """Expected calibration error over 15 equal bins of confidence."""
    truth: Int64[Tensor, " n"]
    """Class of each image."""
    predicted: Int64[Tensor, " n"]
    """The class that each was taken for."""
    num_classes: int
    unreadable: tuple[str, ...]
    """One sentence for each image that could not be read."""

    def metrics(self) -> Iterator[tuple[str, float]]:
        """The figures that fit in one number each, by name."""
        yield from (("top1", self.top1), ("top5", self.top5), ("loss", self.loss), ("ece", self.ece))

    def headline(self) -> str:
        """The most important figures in a few words."""
        return f"accuracy {self.top1:.2%}  loss {self.loss:.4f}"

    def per_class(self) -> Float[Tensor, " classes"]:
        """Share of each class's images that were predicted right; NaN for a class without images."""
        counts, hits = (part.bincount(minlength=self.num_classes) for part in (self.truth, self.truth[self.right()]))
        return hits / counts

    def right(self) -> Bool[Tensor, " n"]:
        """Whether each image was predicted right."""
        return self.truth == self.predicted

    def confusion(self) -> Int64[Tensor, "classes classes"]:
        """Number of images by true class (row) and predicted class (column): 4 GB for ImageNet-21k's classes."""
        pairs = (self.truth * self.num_classes + self.predicted).bincount(minlength=self.num_classes**2)
        return pairs.reshape(self.num_classes, self.num_classes)


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a classifier said of some images, a figure or two for each: far less than its logits."""

    truth: Int64[Tensor, " n"]
    top: Int64[Tensor, "n five"]
    """The most probable classes, best first; five, or all where there are fewer."""
    confidence: Float[Tensor, " n"]
    """Probability of the most probable class."""
    loss: Float[Tensor, " n"]
    """Softmax cross-entropy, in nats."""
    readable: Bool[Tensor, " asked"]
    """Of each image that was asked for, whether it could be read; the others have no row above."""
    num_classes: int
    unreadable: tuple[str, ...] = ()
    """One sentence for each image that could not be read."""

    @classmethod
    def concatenate(cls, parts: Sequence["Predictions"]) -> "Predictions":
        """All parts as one, in their order.

        Raises:
            UserError: there are none.
        """
        if not parts:
            raise UserError("there are no images to evaluate")
        columns = {name: torch.cat([getattr(part, name) for part in parts]) for name in cls.COLUMNS}
        broken = tuple(sentence for part in parts for sentence in part.unreadable)
        return cls(**columns, num_classes=parts[0].num_classes, unreadable=broken)

    COLUMNS: ClassVar = ("truth", "top", "confidence", "loss", "readable")

    def positions(self) -> Int64[Tensor, " n"]:
        """Which of the images that were asked for each row is of."""
        return self.readable.nonzero()[:, 0]

    def accuracy(self) -> Accuracy:
        """The measures over these images.

        Raises:
            UserError: there are no images, or not one could be read.
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
def predict_batches(
    predict: Callable[[UInt8[Tensor, "b h w c"]], Float[Tensor, "b classes"]], batches: Iterable[Batch]
) -> list[Predictions]:
    """Runs a classifier over labelled batches, each an entry of the result.

    Args:
        predict: from images as read to logits.
        batches: every image once.
    """
    parts = []
    for batch in batches:
        readable = batch.labels != UNREADABLE
        scores, truth = predict(batch.images).float().cpu()[readable], batch.labels[readable]
        parts.append(
            Predictions(
                truth=truth,
                top=scores.topk(min(5, scores.shape[1])).indices,
                confidence=scores.softmax(1).amax(1),
                loss=F.cross_entropy(scores, truth, reduction="none"),
                readable=readable,
                num_classes=scores.shape[1],
                unreadable=batch.unreadable,
            )
        )
    return parts


def measure(
    predict: Callable[[UInt8[Tensor, "b h w c"]], Float[Tensor, "b classes"]], batches: Iterable[Batch]
) -> Accuracy:
    """Runs a classifier over labelled batches, as in `predict_batches`, and sums up.

    Raises:
        UserError: there are no images, or not one could be read.
    """
    return Predictions.concatenate(predict_batches(predict, batches)).accuracy()
