"""Weights of classes in a loss, so that rare ones count as much as frequent ones."""

import math
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vitral.errors import UserError
from vitral.objectives.entry import BuildContext

__all__ = ["ClassWeights", "balanced_weights", "check_weights", "positive_weights", "weights_tensor"]

ClassWeights = Literal["none", "balanced"] | tuple[float, ...]
"""`balanced`: from the number of training images; or one weight for each class."""


def balanced_weights(counts: Int64[np.ndarray, " classes"]) -> tuple[float, ...]:
    """The number of images / (number of classes * images of the class), as `class_weight="balanced"` of scikit-learn.

    A class without images has weight 1.

    Args:
        counts: images of each class.
    """
    present = int((counts > 0).sum())
    return tuple(int(counts.sum()) / (present * int(count)) if count else 1.0 for count in counts)


def positive_weights(counts: Int64[np.ndarray, " classes"], num_images: int) -> tuple[float, ...]:
    """Images without each label / images with it: the `pos_weight` of `BCEWithLogitsLoss` that balances a label.

    A label that no image has, or every one, has weight 1.

    Args:
        counts: images with each label.
        num_images: of the data.
    """
    return tuple((num_images - int(count)) / int(count) if 0 < count < num_images else 1.0 for count in counts)


def check_weights(weights: ClassWeights) -> None:
    """Raises UserError if a weight is not above 0."""
    if not isinstance(weights, str) and not all(0 < weight < math.inf for weight in weights):
        raise UserError(f"--objective.class-weights must be above 0, not {' '.join(f'{w:g}' for w in weights)}")


def weights_tensor(
    weights: ClassWeights, context: BuildContext, *, balanced: tuple[float, ...]
) -> Float[Tensor, " classes"] | None:
    """The weights on the device of the run; None if classes are not weighted.

    Args:
        weights: as configured.
        context: the classes and the device.
        balanced: what `balanced` stands for.

    Raises:
        UserError: there is not one for each class.
    """
    classes = context.classes
    if weights == "none":
        return None
    if weights == "balanced":
        weights = balanced
    if len(weights) != len(classes):
        raise UserError(
            f"--objective.class-weights has {len(weights)} weights for {len(classes)} classes: give one for each, in "
            f"the order {', '.join(classes[:5])}{' ...' if len(classes) > 5 else ''}"
        )
    return torch.tensor(weights, dtype=torch.float32, device=context.device)
