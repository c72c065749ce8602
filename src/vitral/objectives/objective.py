"""The interface between an objective and the training loop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vitral.data.augment.mixing import Examples
from vitral.data.batches import Targets
from vitral.models import Model

__all__ = ["Metrics", "Objective", "Panel"]

Metrics = dict[str, Float[Tensor, ""]]
"""Means over a batch by name, still on the device."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One column of a figure that shows what a model has learned."""

    title: str
    images: UInt8[Tensor, "k h w c"]


@runtime_checkable
class Objective(Protocol):
    """A training objective: the modules it trains, its loss, and what it does after each step."""

    def learner(self, model: Model) -> nn.Module:
        """The module to train: the model alone, or the model with parts that only training needs.

        Raises:
            UserError: the objective cannot train such a model.
        """
        ...

    def models(self, learner: nn.Module) -> Sequence[Model]:
        """The models inside the learner, which start from the same weights. The first is evaluated and saved."""
        ...

    def loss(self, forward: Callable[..., Any], examples: Examples) -> tuple[Float[Tensor, ""], Metrics]:
        """The mean loss over the readable images of a batch, and further metrics.

        Args:
            forward: calls the learner, which may be compiled, or wrapped by DDP or FSDP.
            examples: a batch, or a part of one.
        """
        ...

    def weight(self, labels: Targets) -> Tensor:
        """Weight of a part of a batch in the mean over the batch: its readable images, unless classes have weights."""
        ...

    def after_step(self, learner: nn.Module, *, progress: float) -> None:
        """Updates, after an optimiser step, what gradients do not; `progress` is 1 at the run's last step."""
        ...

    def panels(self, learner: nn.Module, examples: Examples) -> Sequence[Panel]:
        """A few images beside the model's outputs for them; empty if there is nothing to show."""
        ...
