"""What a classifier is worth on labelled images: accuracy, loss, calibration, confusion."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from vitral.data.batches import UNREADABLE, Batch

__all__ = ["Accuracy", "expected_calibration_error", "measure"]


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
    confusion: Int64[Tensor, "classes classes"]
    """Number of images by true class (row) and predicted class (column)."""
    broken: tuple[str, ...]
    """One sentence for each image that could not be read."""

    def metrics(self) -> Iterator[tuple[str, float]]:
        """The figures that fit in one number each, by name."""
        yield from (("top1", self.top1), ("top5", self.top5), ("loss", self.loss), ("ece", self.ece))

    def per_class(self) -> Float[Tensor, " classes"]:
        """Share of each class's images that were predicted right; NaN for a class without images."""
        return self.confusion.diagonal() / self.confusion.sum(1)


@torch.no_grad()
def measure(
    predict: Callable[[UInt8[Tensor, "b h w c"]], Float[Tensor, "b classes"]], batches: Iterable[Batch]
) -> Accuracy:
    """Runs a classifier over labelled batches.

    Args:
        predict: from images as read to logits.
        batches: every image once.

    Raises:
        ValueError: there are no images, or not one could be read.
    """
    logits, labels, broken = [], [], []
    for batch in batches:
        readable = batch.labels != UNREADABLE
        logits.append(predict(batch.images).float().cpu()[readable])
        labels.append(batch.labels[readable])
        broken.extend(batch.broken)
    if not any(map(len, labels)):
        raise ValueError(f"no image could be read: {broken[0]}" if broken else "there are no images to evaluate")
    scores, truth = torch.cat(logits), torch.cat(labels)
    num_classes = scores.shape[1]
    top = scores.topk(min(5, num_classes)).indices
    hits = top == truth[:, None]
    confusion = torch.bincount(truth * num_classes + top[:, 0], minlength=num_classes**2)
    return Accuracy(
        num_images=len(truth),
        top1=hits[:, 0].float().mean().item(),
        top5=hits.any(1).float().mean().item(),
        loss=F.cross_entropy(scores, truth).item(),
        ece=expected_calibration_error(scores.softmax(1).amax(1), hits[:, 0]),
        confusion=confusion.reshape(num_classes, num_classes),
        broken=tuple(broken),
    )


def expected_calibration_error(confidence: Float[Tensor, " n"], right: Tensor, *, bins: int = 15) -> float:
    """Mean distance between confidence and accuracy over equal bins of confidence, by their share of the images.

    Guo et al. 2017, equation 3; a bin holds confidences above its lower edge, up to its upper edge.

    Args:
        confidence: probability of the predicted class.
        right: whether each prediction was right.
        bins: number of bins over 0..1.
    """
    index = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)
    gaps = torch.zeros(bins, dtype=torch.float64)
    gaps.index_add_(0, index, right.double() - confidence.double())
    return gaps.abs().sum().item() / len(confidence)
