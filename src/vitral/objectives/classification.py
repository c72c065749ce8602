"""Supervised classification: softmax or sigmoid cross-entropy, with smoothed and mixed labels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from vitral.data.examples import Examples

__all__ = ["Classification", "ClassificationConfig"]


def _softmax(logits: Float[Tensor, "b classes"], labels: Int64[Tensor, " b"], smoothing: float) -> Float[Tensor, " b"]:
    return F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)


def _sigmoid(logits: Float[Tensor, "b classes"], labels: Int64[Tensor, " b"], smoothing: float) -> Float[Tensor, " b"]:
    """The sum over classes of softplus(logit) - target * logit, without a table of targets."""
    own = logits.gather(1, labels[:, None]).squeeze(1)
    return F.softplus(logits).sum(1) - (1 - smoothing) * own - smoothing * logits.mean(1)


LOSSES = {"softmax": _softmax, "sigmoid": _sigmoid}
"""Loss of each image for one label, by name."""


@dataclass(frozen=True, kw_only=True)
class ClassificationConfig:
    """What a classification step learns from."""

    loss: Literal["softmax", "sigmoid"] = "softmax"
    """Cross-entropy of one choice among all classes, or of a yes or no for each, summed over the classes, as the paper
    pre-trains on JFT and ImageNet-21k."""
    label_smoothing: float = 0.0
    """Share of each label spread evenly over all classes."""

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be at least 0 and below 1, not {self.label_smoothing}")


class Classification:
    """Cross-entropy, averaged over the images that could be read."""

    def __init__(self, config: ClassificationConfig) -> None:
        self.label_smoothing = config.label_smoothing
        self.per_label = LOSSES[config.loss]

    def loss(
        self, model: Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b classes"]], examples: Examples
    ) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """The mean loss of a batch, and its accuracy (a fraction) on the images' own labels.

        Both losses are linear in the target: that of a mixed image is the weighted sum of those of its two labels.
        """
        logits = model(examples.images).float()
        counted = examples.counted
        count = counted.sum().clamp(min=1)
        losses = self.per_label(logits, examples.labels.where(counted, 0), self.label_smoothing)
        if examples.partners is not None and examples.shares is not None:
            others = self.per_label(logits, examples.partners.where(counted, 0), self.label_smoothing)
            losses = torch.lerp(others, losses, examples.shares)
        correct = (logits.argmax(1) == examples.labels).sum()
        return losses.where(counted, 0.0).sum() / count, {"accuracy": correct / count}
