"""Supervised classification: softmax or sigmoid cross-entropy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
import torch.nn.functional as F
import tyro
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vitral.config import renamed
from vitral.data.augment.mixing import Examples
from vitral.data.batches import UNREADABLE, Targets, readable
from vitral.errors import UserError
from vitral.models import Model
from vitral.objectives.class_weights import ClassWeights, check_weights, weights_tensor
from vitral.objectives.entry import BuildContext, EvaluateBy
from vitral.objectives.objective import Metrics, Panel

__all__ = ["Classification", "ClassificationConfig", "build_classification"]


@renamed(values={"mixed_labels": {"shares": "soft", "both": "multi_hot"}})
@dataclass(frozen=True, kw_only=True)
class ClassificationConfig:
    """The loss of supervised classification.

    Raises:
        UserError: a value is out of range, or does not go with another.
    """

    evaluate_by: ClassVar[EvaluateBy] = "labels"
    name: tyro.conf.Suppress[Literal["classification"]] = "classification"
    loss: Literal["softmax", "sigmoid"] = "softmax"
    """`softmax`: cross-entropy over classes. `sigmoid`: binary cross-entropy of each class, summed over classes, as the
    paper pre-trains.
    """
    label_smoothing: float = 0.0
    """Fraction of each label that is spread evenly over all classes."""
    mixed_labels: Literal["soft", "multi_hot"] = "soft"
    """Target of images mixed by mixup or CutMix. `soft`: both classes, each weighted by its part of the image.
    `multi_hot`: 1 for both classes, as in DeiT III; needs the loss `sigmoid`.
    """
    class_weights: ClassWeights = "none"
    """Weight of each class in the loss. balanced: images / (classes * images of the class), as in scikit-learn; or one
    weight for each class, as the `weight` of PyTorch's CrossEntropyLoss.
    """
    balanced_weights: tyro.conf.Suppress[tuple[float, ...]] = ()
    """Weight of each class with class_weights balanced; a run computes them."""

    def __post_init__(self) -> None:
        if self.mixed_labels == "multi_hot" and (self.loss != "sigmoid" or self.label_smoothing):
            raise UserError("mixed_labels multi_hot needs the loss sigmoid, and label_smoothing 0")
        check_weights(self.class_weights)
        if self.class_weights != "none" and self.mixed_labels == "multi_hot":
            raise UserError("class_weights weight one class for each image: set mixed_labels soft")
        if not 0 <= self.label_smoothing < 1:
            raise UserError(f"label_smoothing must be at least 0 and below 1, not {self.label_smoothing}")


class Classification:
    """Cross-entropy, averaged over readable images; with class weights, the weighted mean.

    Both losses are linear in the target, so the loss of a mixed image is the weighted sum of both labels' losses.
    """

    def __init__(self, config: ClassificationConfig, *, class_weights: Float[Tensor, " classes"] | None = None) -> None:
        self.class_weights = class_weights
        self.label_smoothing = config.label_smoothing
        self.mixed_loss = {"soft": self._soft_labels, "multi_hot": self._multi_hot_labels}[config.mixed_labels]
        self.label_loss = {"softmax": self._softmax, "sigmoid": self._sigmoid}[config.loss]

    def learner(self, model: Model) -> Model:
        """See `Objective`: the model alone."""
        return model

    def models(self, learner: nn.Module) -> tuple[Model]:
        """See `Objective`."""
        return (cast(Model, learner),)

    def after_step(self, learner: nn.Module, *, progress: float) -> None:
        """See `Objective`: nothing, as gradients update everything."""

    def panels(self, learner: nn.Module, examples: Examples) -> Sequence[Panel]:
        """See `Objective`: none, as a run's report shows predictions."""
        return ()

    def weight(self, labels: Targets) -> Tensor:
        """See `Objective`: the number of readable images, or the sum of the weights of their classes."""
        is_readable = readable(labels)
        return is_readable.sum() if self.class_weights is None else (self._weights(labels) * is_readable).sum()

    def loss(
        self, forward: Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b classes"]], examples: Examples
    ) -> tuple[Float[Tensor, ""], Metrics]:
        """See `Objective`: the mean loss, and the accuracy (a fraction; of a mixed image by its own label)."""
        return self.loss_of_logits(forward(examples.images), examples)

    def loss_of_logits(
        self, logits: Float[Tensor, "b classes"], examples: Examples
    ) -> tuple[Float[Tensor, ""], Metrics]:
        """As `loss`, from logits."""
        logits, labels = logits.float(), examples.labels
        count, total = (torch.where(part > 0, part, 1) for part in (readable(labels).sum(), self.weight(labels)))
        losses = self.label_loss(logits, labels) if examples.partners is None else self.mixed_loss(logits, examples)
        correct = (logits.argmax(1) == labels).sum()
        return losses.sum() / total, {"accuracy": correct / count}

    def _soft_labels(self, logits: Float[Tensor, "b classes"], mixed: Examples) -> Float[Tensor, " b"]:
        assert mixed.partners is not None
        assert mixed.mix_weights is not None
        own, other = self.label_loss(logits, mixed.labels), self.label_loss(logits, mixed.partners)
        return own * mixed.mix_weights + other * (1 - mixed.mix_weights)

    def _multi_hot_labels(self, logits: Float[Tensor, "b classes"], mixed: Examples) -> Float[Tensor, " b"]:
        """Subtracts the logit of the second class, if it is another class and part of the image is visible."""
        assert mixed.partners is not None
        assert mixed.mix_weights is not None
        second = (mixed.partners != mixed.labels) & (mixed.mix_weights < 1)
        logit = logits.gather(1, mixed.partners.clamp(min=0)[:, None])[:, 0]
        return self.label_loss(logits, mixed.labels) - logit * second

    def _softmax(self, logits: Float[Tensor, "b classes"], labels: Int64[Tensor, " b"]) -> Float[Tensor, " b"]:
        return F.cross_entropy(
            logits,
            labels,
            self.class_weights,
            reduction="none",
            ignore_index=UNREADABLE,
            label_smoothing=self.label_smoothing,
        )

    def _sigmoid(self, logits: Float[Tensor, "b classes"], labels: Int64[Tensor, " b"]) -> Float[Tensor, " b"]:
        """The sum over classes of softplus(x) - target * x, without building a dense target."""
        smooth = self.label_smoothing
        own = logits.gather(1, labels.clamp(min=0)[:, None])[:, 0]
        target = (1 - smooth) * own + smooth * logits.mean(1)
        losses = (F.softplus(logits).sum(1) - target) * readable(labels)
        return losses if self.class_weights is None else losses * self._weights(labels)

    def _weights(self, labels: Targets) -> Float[Tensor, " b"]:
        """The weight of each image's class."""
        assert self.class_weights is not None
        return self.class_weights[labels.clamp(min=0)]


def build_classification(config: ClassificationConfig, context: BuildContext) -> Classification:
    """See `ObjectiveEntry`."""
    return Classification(
        config, class_weights=weights_tensor(config.class_weights, context, balanced=config.balanced_weights)
    )
