"""What representations are worth, measured in passing while a model learns without labels."""

from collections.abc import Iterator
from dataclasses import dataclass

from vitral.errors import UserError
from vitral.evals.features import FeatureSet
from vitral.evals.knn import knn_predictions
from vitral.evals.linear import linear_predictions

__all__ = ["Probe", "probe"]

NEIGHBOURS = 20


@dataclass(frozen=True, kw_only=True)
class Probe:
    """How well simple classifiers on the representations do; shares of the images that could be read."""

    num_images: int
    knn: float
    """Accuracy of the 20 nearest neighbours' weighted vote."""
    linear: float
    """Accuracy of logistic regression."""
    unreadable: tuple[str, ...]
    """One sentence for each image that could not be read."""

    def metrics(self) -> Iterator[tuple[str, float]]:
        """The figures by name."""
        yield from (("knn", self.knn), ("linear", self.linear))

    def headline(self) -> str:
        """The figures in a few words."""
        return f"kNN {self.knn:.2%}  linear probe {self.linear:.2%}"


def probe(train: FeatureSet, test: FeatureSet, *, num_classes: int) -> Probe:
    """Classifies the test images by the training images, whose classes are known.

    Raises:
        UserError: no image could be read.
    """
    for part in (train, test):
        if not len(part.labels):
            raise UserError(
                f"no image could be read: {part.unreadable[0]}" if part.unreadable else "there are no images"
            )
    by_neighbours = knn_predictions(
        train.features, train.labels, test.features, ks=(NEIGHBOURS,), num_classes=num_classes
    )[NEIGHBOURS]
    by_lines = linear_predictions(train.features, train.labels, test.features)
    return Probe(
        num_images=len(test.labels),
        knn=(by_neighbours == test.labels).float().mean().item(),
        linear=(by_lines == test.labels).float().mean().item(),
        unreadable=test.unreadable,
    )
