"""Regression: one number for each image, such as an age or a price."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
import tyro
from jaxtyping import Float
from torch import Tensor, nn

from vitral.data.augment.mixing import Examples
from vitral.data.batches import Targets, readable
from vitral.errors import UserError
from vitral.models import Model
from vitral.objectives.entry import BuildContext, EvaluateBy, RunSettings
from vitral.objectives.objective import Metrics, Panel

__all__ = ["Regression", "RegressionConfig", "build_regression", "validate_regression"]


@dataclass(frozen=True, kw_only=True)
class RegressionConfig:
    """The loss of a number.

    Raises:
        UserError: a value is out of range.
    """

    evaluate_by: ClassVar[EvaluateBy] = "labels"
    name: tyro.conf.Suppress[Literal["regression"]] = "regression"
    mean: tyro.conf.Suppress[float | None] = None
    """Mean of the training images' numbers, which the model starts from; a run measures it. None: 0."""
    std: tyro.conf.Suppress[float | None] = None
    """Their standard deviation, the unit of errors in the loss. None: 1."""

    def __post_init__(self) -> None:
        if self.std is not None and not 0 < self.std < math.inf:
            raise UserError(f"the standard deviation of the numbers must be above 0, not {self.std}")


class Regression:
    """Squared error in standard deviations of the training images' numbers, averaged over readable images."""

    def __init__(self, *, std: float) -> None:
        self.std = std

    def learner(self, model: Model) -> Model:
        """See `Objective`: the model alone, which gives numbers in their own unit."""
        return model

    def models(self, learner: nn.Module) -> tuple[Model]:
        """See `Objective`."""
        return (cast(Model, learner),)

    def weight(self, labels: Targets) -> Tensor:
        """See `Objective`: the number of readable images."""
        return readable(labels).sum()

    def loss(
        self, forward: Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b 1"]], examples: Examples
    ) -> tuple[Float[Tensor, ""], Metrics]:
        """See `Objective`; `mae` is the mean absolute error in the numbers' own unit."""
        is_readable = readable(examples.labels)
        count = is_readable.sum().clamp(min=1)
        errors = torch.where(is_readable, (forward(examples.images).float() - examples.labels.nan_to_num())[:, 0], 0.0)
        return (errors / self.std).square().sum() / count, {"mae": errors.detach().abs().sum() / count}

    def after_step(self, learner: nn.Module, *, progress: float) -> None:
        """See `Objective`: nothing, as gradients update everything."""

    def panels(self, learner: nn.Module, examples: Examples) -> Sequence[Panel]:
        """See `Objective`: none, as a run's report shows predictions."""
        return ()


def build_regression(config: RegressionConfig, context: BuildContext) -> Regression:
    """See `ObjectiveEntry`."""
    return Regression(std=1.0 if config.std is None else config.std)


def validate_regression(run: RunSettings) -> None:
    """Validates a run that learns a number.

    Raises:
        UserError: its data have classes, or it mixes images.
    """
    if run.data.target != "regression":
        raise UserError(
            f"regression needs --data.target regression, not {run.data.target}: add it, or choose a recipe for classes"
        )
    if run.augment.mixes:
        raise UserError("mixup and CutMix mix two classes, not numbers: give --augment.mixup 0 --augment.cutmix 0")
