"""Classification of images with any number of labels: a sigmoid and binary cross-entropy for each label."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
import torch.nn.functional as F
import tyro
from jaxtyping import Float
from torch import Tensor, nn

from vitral.data.augment.mixing import Examples
from vitral.data.batches import Targets, readable
from vitral.errors import UserError
from vitral.models import Model
from vitral.objectives.class_weights import ClassWeights, check_weights, weights_tensor
from vitral.objectives.entry import BuildContext, EvaluateBy, RunSettings
from vitral.objectives.objective import Metrics, Panel

__all__ = ["MultiLabel", "MultiLabelConfig", "build_multi_label", "validate_multi_label"]


@dataclass(frozen=True, kw_only=True)
class MultiLabelConfig:
    """The loss of images with several labels.

    Raises:
        UserError: a value is out of range.
    """

    evaluate_by: ClassVar[EvaluateBy] = "labels"
    name: tyro.conf.Suppress[Literal["multi_label"]] = "multi_label"
    label_smoothing: float = 0.0
    """Targets are this fraction nearer to 0.5: with 0.1, they are 0.05 and 0.95."""
    class_weights: ClassWeights = "none"
    """Weight of the images that have a label, beside those that lack it. balanced: as many as lack it for each that has
    it; or one weight for each label, as the `pos_weight` of PyTorch's BCEWithLogitsLoss.
    """
    balanced_weights: tyro.conf.Suppress[tuple[float, ...]] = ()
    """Weight of each label with class_weights balanced; a run computes them."""

    def __post_init__(self) -> None:
        check_weights(self.class_weights)
        if not 0 <= self.label_smoothing < 1:
            raise UserError(f"label_smoothing must be at least 0 and below 1, not {self.label_smoothing}")


class MultiLabel:
    """Binary cross-entropy, summed over labels and averaged over readable images."""

    def __init__(self, config: MultiLabelConfig, *, positive_weights: Float[Tensor, " k"] | None = None) -> None:
        self.label_smoothing = config.label_smoothing
        self.positive_weights = positive_weights

    def learner(self, model: Model) -> Model:
        """See `Objective`: the model alone."""
        return model

    def models(self, learner: nn.Module) -> tuple[Model]:
        """See `Objective`."""
        return (cast(Model, learner),)

    def weight(self, labels: Targets) -> Tensor:
        """See `Objective`: the number of readable images."""
        return readable(labels).sum()

    def loss(
        self, forward: Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b k"]], examples: Examples
    ) -> tuple[Float[Tensor, ""], Metrics]:
        """See `Objective`; without further metrics."""
        is_readable = readable(examples.labels)
        smooth = self.label_smoothing
        targets = examples.labels.nan_to_num() * (1 - smooth) + 0.5 * smooth
        losses = F.binary_cross_entropy_with_logits(
            forward(examples.images).float(), targets, reduction="none", pos_weight=self.positive_weights
        ).sum(1)
        return torch.where(is_readable, losses, 0.0).sum() / is_readable.sum().clamp(min=1), {}

    def after_step(self, learner: nn.Module, *, progress: float) -> None:
        """See `Objective`: nothing, as gradients update everything."""

    def panels(self, learner: nn.Module, examples: Examples) -> Sequence[Panel]:
        """See `Objective`: none, as a run's report shows predictions."""
        return ()


def build_multi_label(config: MultiLabelConfig, context: BuildContext) -> MultiLabel:
    """See `ObjectiveEntry`."""
    return MultiLabel(
        config, positive_weights=weights_tensor(config.class_weights, context, balanced=config.balanced_weights)
    )


def validate_multi_label(run: RunSettings) -> None:
    """Validates a run that learns several labels an image.

    Raises:
        UserError: its data have one class an image, or it mixes images.
    """
    if run.data.target != "multi-label":
        raise UserError(
            f"several labels an image need --data.target multi-label, not {run.data.target}: add it, or choose a "
            "recipe for classes"
        )
    if run.augment.mixes:
        raise UserError(
            "mixup and CutMix mix two classes, not several labels: give --augment.mixup 0 --augment.cutmix 0"
        )
