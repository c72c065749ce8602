"""Metrics of a classifier: top-1 and top-5 accuracy, loss, calibration error, accuracy per class, confusion matrix."""

from collections.abc import Iterator
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int64
from torch import Tensor

__all__ = ["Accuracy"]


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Metrics over the images that could be read; accuracies are fractions."""

    num_images: int
    top1: float
    """Fraction of images whose true class is the most probable one."""
    top5: float
    """Fraction of images whose true class is among the five most probable; 1 if there are at most five classes."""
    loss: float
    """Mean softmax cross-entropy, in nats."""
    ece: float
    """Expected calibration error over 15 equal bins of confidence."""
    truth: Int64[Tensor, " n"]
    """True class of each image."""
    predicted: Int64[Tensor, " n"]
    """Predicted class of each image."""
    num_classes: int
    unreadable: tuple[str, ...]
    """One message for each image that could not be read."""

    def metrics(self) -> Iterator[tuple[str, float]]:
        """The scalar metrics by name."""
        yield from (("top1", self.top1), ("top5", self.top5), ("loss", self.loss), ("ece", self.ece))

    def headline(self) -> str:
        """The main metrics in one line."""
        return f"accuracy {self.top1:.2%}  loss {self.loss:.4f}"

    def per_class(self) -> Float[Tensor, " classes"]:
        """Accuracy on each class's images; NaN for a class without images."""
        counts, hits = (part.bincount(minlength=self.num_classes) for part in (self.truth, self.truth[self.correct()]))
        return hits / counts

    def correct(self) -> Bool[Tensor, " n"]:
        """Whether each prediction is correct."""
        return self.truth == self.predicted

    def confusion(self) -> Int64[Tensor, "classes classes"]:
        """Number of images by true class (row) and predicted class (column): 4 GB for ImageNet-21k's classes."""
        pairs = (self.truth * self.num_classes + self.predicted).bincount(minlength=self.num_classes**2)
        return pairs.reshape(self.num_classes, self.num_classes)
