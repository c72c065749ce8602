"""Supervised classification: softmax cross-entropy."""

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from vitral.data.batches import UNREADABLE

__all__ = ["Classification", "ClassificationConfig"]


@dataclass(frozen=True, kw_only=True)
class ClassificationConfig:
    """What a classification step learns from."""

    label_smoothing: float = 0.0
    """Share of each label spread evenly over all classes."""

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be at least 0 and below 1, not {self.label_smoothing}")


class Classification:
    """Softmax cross-entropy, averaged over the images that could be read."""

    def __init__(self, config: ClassificationConfig) -> None:
        self.label_smoothing = config.label_smoothing

    def loss(
        self,
        model: Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b classes"]],
        images: Float[Tensor, "b c h w"],
        labels: Int64[Tensor, " b"],
    ) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """The mean loss of a batch, and its accuracy (a fraction)."""
        logits = model(images).float()
        count = (labels != UNREADABLE).sum().clamp(min=1)
        total = F.cross_entropy(
            logits, labels, reduction="sum", ignore_index=UNREADABLE, label_smoothing=self.label_smoothing
        )
        correct = (logits.argmax(1) == labels).sum()
        return total / count, {"accuracy": correct / count}
