"""What travels with a model's weights."""

from dataclasses import dataclass, field
from typing import Any

from vitral.data.images.preprocess import Preprocessing

__all__ = ["ModelCard"]


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Everything but the weights that is needed to use a model, and to know what it is."""

    preprocessing: Preprocessing
    """From an image to the model's input."""
    classes: tuple[str, ...]
    """Name of each class, in the order of the logits."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """How the weights came about: recipe, data, seed, steps, versions."""
    metrics: dict[str, float] = field(default_factory=dict)
    """What the model was measured to reach, such as `test/top1` (fractions)."""
