"""Supervised classification: softmax or sigmoid cross-entropy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch.nn.functional as F
import tyro
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vitral.data.augment.mixing import Examples
from vitral.data.batches import UNREADABLE
from vitral.errors import UserError
from vitral.models import Model
from vitral.objectives.objective import Figures, Panel

__all__ = ["Classification", "ClassificationConfig"]


@dataclass(frozen=True, kw_only=True)
class ClassificationConfig:
    """What a classification step learns from."""

    evaluate_by: ClassVar = "labels"
    name: tyro.conf.Suppress[Literal["classification"]] = "classification"
    loss: Literal["softmax", "sigmoid"] = "softmax"
    """Cross-entropy over classes, or of each class by itself, summed over classes, as the paper pre-trains."""
    label_smoothing: float = 0.0
    """Share of each label spread evenly over all classes."""

    mixed_labels: Literal["shares", "both"] = "shares"
    """What a mixed image is: both classes by their shares, or fully either of them, as DeiT III has it, for which the
    loss must be sigmoid.
    """

    def __post_init__(self) -> None:
        if self.mixed_labels == "both" and (self.loss != "sigmoid" or self.label_smoothing):
            raise UserError("mixed_labels both needs the loss sigmoid, and label_smoothing 0")
        if not 0 <= self.label_smoothing < 1:
            raise UserError(f"label_smoothing must be at least 0 and below 1, not {self.label_smoothing}")


class Classification:
    """Cross-entropy, averaged over the images that could be read.

    Either form is linear in the target, so that the loss of a mixed image is that of both labels by their shares.
    """

    def __init__(self, config: ClassificationConfig) -> None:
        self.label_smoothing = config.label_smoothing
        self.of_mixed = {"shares": self._by_shares, "both": self._of_both}[config.mixed_labels]
        self.of_labels = {"softmax": self._softmax, "sigmoid": self._sigmoid}[config.loss]

    def learner(self, model: Model) -> Model:
        """See `Objective`: the model alone."""
        return model

    def models(self, learner: nn.Module) -> tuple[Model]:
        """See `Objective`."""
        return (cast(Model, learner),)

    def after_step(self, learner: nn.Module, *, progress: float) -> None:
        """See `Objective`; gradients change everything here."""

    def panels(self, learner: nn.Module, examples: Examples) -> Sequence[Panel]:
        """See `Objective`; the report of a run shows what was predicted."""
        return ()

    def loss(
        self, forward: Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b classes"]], examples: Examples
    ) -> tuple[Float[Tensor, ""], Figures]:
        """The mean loss of a batch, and its accuracy (a fraction; of a mixed image by its own label)."""
        return self.of_logits(forward(examples.images), examples)

    def of_logits(self, logits: Float[Tensor, "b classes"], examples: Examples) -> tuple[Float[Tensor, ""], Figures]:
        """The same of logits that are there."""
        logits, labels = logits.float(), examples.labels
        count = (labels != UNREADABLE).sum().clamp(min=1)
        each = self.of_labels(logits, labels) if examples.partners is None else self.of_mixed(logits, examples)
        correct = (logits.argmax(1) == labels).sum()
        return each.sum() / count, {"accuracy": correct / count}

    def _by_shares(self, logits: Float[Tensor, "b classes"], mixed: Examples) -> Float[Tensor, " b"]:
        assert mixed.partners is not None
        assert mixed.shares is not None
        own, other = self.of_labels(logits, mixed.labels), self.of_labels(logits, mixed.partners)
        return own * mixed.shares + other * (1 - mixed.shares)

    def _of_both(self, logits: Float[Tensor, "b classes"], mixed: Examples) -> Float[Tensor, " b"]:
        """A second class takes its logit off the loss, where it is another one and can be seen."""
        assert mixed.partners is not None
        assert mixed.shares is not None
        second = (mixed.partners != mixed.labels) & (mixed.shares < 1)
        logit = logits.gather(1, mixed.partners.clamp(min=0)[:, None])[:, 0]
        return self.of_labels(logits, mixed.labels) - logit * second

    def _softmax(self, logits: Float[Tensor, "b classes"], labels: Int64[Tensor, " b"]) -> Float[Tensor, " b"]:
        return F.cross_entropy(
            logits, labels, reduction="none", ignore_index=UNREADABLE, label_smoothing=self.label_smoothing
        )

    def _sigmoid(self, logits: Float[Tensor, "b classes"], labels: Int64[Tensor, " b"]) -> Float[Tensor, " b"]:
        """The sum over classes of softplus(x) - target * x, without a dense target."""
        smooth = self.label_smoothing
        own = logits.gather(1, labels.clamp(min=0)[:, None])[:, 0]
        target = (1 - smooth) * own + smooth * logits.mean(1)
        return (F.softplus(logits).sum(1) - target) * (labels != UNREADABLE)
