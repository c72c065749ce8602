"""The model card: everything that is saved with a model's weights."""

from dataclasses import dataclass, field
from typing import Any

from vitral.data.config import Target
from vitral.data.images.preprocess import Preprocessing

__all__ = ["DEFAULT_THRESHOLD", "ModelCard"]

DEFAULT_THRESHOLD = 0.5
"""Probability from which an image has a label, where no threshold was chosen."""


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Everything besides the weights that is needed to use and describe a model."""

    preprocessing: Preprocessing
    """How an image becomes the model's input."""
    classes: tuple[str, ...]
    """Name of each class, in the order of the logits; empty if the head was never trained, so that logits mean nothing.
    """
    provenance: dict[str, Any] = field(default_factory=dict)
    """Origin of the weights: recipe, data, seed, steps, versions."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Evaluation results, such as `test/top1` (fractions)."""
    target: Target = "class"
    """What the model predicts of an image: its class, any number of labels, or a number, named by the only class."""
    thresholds: tuple[float, ...] = ()
    """Probability of each label from which an image has it, with the target multi-label; empty: 0.5."""

    @property
    def label_thresholds(self) -> tuple[float, ...]:
        """The threshold of each label."""
        return self.thresholds or (DEFAULT_THRESHOLD,) * len(self.classes)
