"""Supervised classification: softmax or sigmoid cross-entropy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from vitral.data.augment.mixing import Examples
from vitral.data.batches import UNREADABLE

__all__ = ["Classification", "ClassificationConfig"]


@dataclass(frozen=True, kw_only=True)
class ClassificationConfig:
    """What a classification step learns from."""

    loss: Literal["softmax", "sigmoid"] = "softmax"
    """Cross-entropy over classes, or of each class by itself, summed over classes, as the paper pre-trains."""
    label_smoothing: float = 0.0
    """Share of each label spread evenly over all classes."""

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be at least 0 and below 1, not {self.label_smoothing}")


class Classification:
    """Cross-entropy, averaged over the images that could be read.

    Either form is linear in the target, so that the loss of a mixed image is that of both labels by their shares.
    """

    def __init__(self, config: ClassificationConfig) -> None:
        self.label_smoothing = config.label_smoothing
        self.of_labels = {"softmax": self._softmax, "sigmoid": self._sigmoid}[config.loss]

    def loss(
        self, model: Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b classes"]], examples: Examples
    ) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """The mean loss of a batch, and its accuracy (a fraction; of a mixed image by its own label)."""
        logits, labels = model(examples.images).float(), examples.labels
        count = (labels != UNREADABLE).sum().clamp(min=1)
        each = self.of_labels(logits, labels)
        if examples.partners is not None and examples.shares is not None:
            each = each * examples.shares + self.of_labels(logits, examples.partners) * (1 - examples.shares)
        correct = (logits.argmax(1) == labels).sum()
        return each.sum() / count, {"accuracy": correct / count}

    def _softmax(self, logits: Float[Tensor, "b classes"], labels: Int64[Tensor, " b"]) -> Float[Tensor, " b"]:
        return F.cross_entropy(
            logits, labels, reduction="none", ignore_index=UNREADABLE, label_smoothing=self.label_smoothing
        )

    def _sigmoid(self, logits: Float[Tensor, "b classes"], labels: Int64[Tensor, " b"]) -> Float[Tensor, " b"]:
        """The sum over classes of softplus(x) - target * x, without a dense target."""
        smooth = self.label_smoothing
        own = logits.gather(1, labels.clamp(min=0)[:, None])[:, 0]
        target = (1 - smooth) * own + smooth * logits.mean(1)
        return (F.softplus(logits).sum(1) - target) * (labels != UNREADABLE)
