"""What every objective offers the training loop, which knows no more of any of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vitral.data.augment.mixing import Examples
from vitral.models import Model

__all__ = ["Figures", "Objective", "Panel"]

Figures = dict[str, Float[Tensor, ""]]
"""Means over a batch by name, still on the device."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One column of the pictures that show what a model has learned."""

    title: str
    images: UInt8[Tensor, "k h w c"]


@runtime_checkable
class Objective(Protocol):
    """What a step learns.

    Its configuration says as `evaluate_by` what evaluation measures: the classes that the model tells (labels), or what
    its representations are worth (features).
    """

    def learner(self, model: Model) -> nn.Module:
        """What is trained: the model alone, or with the parts that only training needs.

        Raises:
            UserError: the objective is not for such models.
        """
        ...

    def models(self, learner: nn.Module) -> Sequence[Model]:
        """The models in what is trained, which begin with the same weights; the first is evaluated and kept."""
        ...

    def loss(self, forward: Callable[..., Any], examples: Examples) -> tuple[Float[Tensor, ""], Figures]:
        """The mean loss of a batch over the images that could be read, and further figures.

        Args:
            forward: calls the learner, wherever its weights are.
            examples: a batch, or a part of one.
        """
        ...

    def after_step(self, learner: nn.Module, *, progress: float) -> None:
        """Changes what gradients do not, when a step was taken; `progress` reaches 1 with the run's last step."""
        ...

    def panels(self, learner: nn.Module, examples: Examples) -> Sequence[Panel]:
        """A few images and what was made of them, side by side; nothing where there is nothing to see."""
        ...
