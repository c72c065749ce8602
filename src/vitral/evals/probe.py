"""kNN and linear-probe accuracy of features, evaluated during self-supervised training."""

from collections.abc import Iterator
from dataclasses import dataclass

from vitral.errors import UserError
from vitral.evals.features import FeatureSet
from vitral.evals.knn import knn_predictions
from vitral.evals.linear import linear_predictions

__all__ = ["Probe", "probe"]

NUM_NEIGHBOURS = 20


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Accuracies of simple classifiers on features; fractions of the images that could be read."""

    num_images: int
    knn: float
    """Accuracy of the weighted vote of the 20 nearest neighbours."""
    linear: float
    """Accuracy of logistic regression."""
    unreadable: tuple[str, ...]
    """One message for each image that could not be read."""

    def metrics(self) -> Iterator[tuple[str, float]]:
        """The metrics by name."""
        yield from (("knn", self.knn), ("linear", self.linear))

    def headline(self) -> str:
        """The metrics in one line."""
        return f"kNN {self.knn:.2%}  linear probe {self.linear:.2%}"


def probe(train: FeatureSet, test: FeatureSet, *, num_classes: int) -> Probe:
    """Fits both classifiers to the training images and evaluates them on the test images.

    Raises:
        UserError: no image could be read.
    """
    for part in (train, test):
        if not len(part.labels):
            raise UserError(
                f"no image could be read: {part.unreadable[0]}" if part.unreadable else "there are no images"
            )
    knn = knn_predictions(train.features, train.labels, test.features, ks=(NUM_NEIGHBOURS,), num_classes=num_classes)
    linear = linear_predictions(train.features, train.labels, test.features)
    return Probe(
        num_images=len(test.labels),
        knn=(knn[NUM_NEIGHBOURS] == test.labels).float().mean().item(),
        linear=(linear == test.labels).float().mean().item(),
        unreadable=test.unreadable,
    )
