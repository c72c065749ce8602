"""Learning from labels and from a teacher: hard and soft distillation, with DeiT's token or without."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
import tyro
from jaxtyping import Float
from torch import Tensor

from vitral.data.augment.mixing import Examples
from vitral.data.batches import UNREADABLE
from vitral.errors import UserError
from vitral.layers.pooling import TwoHeads
from vitral.models import Model
from vitral.objectives.classification import Classification, ClassificationConfig
from vitral.objectives.objective import Figures

__all__ = ["Distillation", "DistillationConfig", "Teacher"]

Logits = Float[Tensor, "b classes"]
Teacher = Callable[[Float[Tensor, "b c h w"]], Logits]
"""From a batch in the student's range to the logits of a model that stays as it is."""


@dataclass(frozen=True, kw_only=True)
class DistillationConfig:
    """What a student learns from its teacher, and what from labels.

    Raises:
        UserError: a value is out of range.
    """

    evaluate_by: ClassVar = "labels"
    name: tyro.conf.Suppress[Literal["distillation"]] = "distillation"
    teacher: Path | None = None
    """The trained model to learn from: a run's folder, another project's file, hf-hub:OWNER/NAME."""
    form: Literal["hard", "soft"] = "hard"
    """hard: the teacher's class is a second label. soft: its probabilities are to be matched (arXiv 1503.02531)."""
    temperature: float = 3.0
    """Of soft distillation: logits of both are divided by it."""
    share: float = 0.5
    """Share of the loss that comes from the teacher; 1 needs no label at all."""
    labels: ClassificationConfig = field(default_factory=ClassificationConfig)
    """What is learned from labels."""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UserError(f"--objective.share must be above 0 and at most 1, not {self.share}")
        if not self.temperature > 0:
            raise UserError(f"--objective.temperature must be above 0, not {self.temperature}")


class Distillation(Classification):
    """The labels' loss and the teacher's, by their shares ("Training data-efficient image transformers & distillation
    through attention", arXiv 2012.12877, section 4).

    A model with a distillation token learns from labels with the class token's head and from the teacher with the
    other; any other model from both with its only head. The teacher sees the very images that the student sees, mixed
    and cropped, as in "A good teacher is patient and consistent" (arXiv 2106.05237).
    """

    def __init__(self, config: DistillationConfig, teacher: Teacher) -> None:
        super().__init__(config.labels)
        self.share, self.temperature = config.share, config.temperature
        self.of_teacher = {"hard": self._hard, "soft": self._soft}[config.form]
        self.teacher = teacher

    def learner(self, model: Model) -> Model:
        """See `Objective`: the model, which in training tells the logits of both heads where it has two."""
        if isinstance(model.head, TwoHeads):
            model.head.return_both = True
        return model

    def loss(
        self, forward: Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b *two classes"]], examples: Examples
    ) -> tuple[Float[Tensor, ""], Figures]:
        """The mean loss of a batch; `agreement` is the share of images that get the teacher's class."""
        logits = forward(examples.images).float()
        own, taught = logits.unbind(1) if logits.ndim == 3 else (logits, logits)
        with torch.no_grad():
            told = self.teacher(examples.images).float()
        readable = examples.labels != UNREADABLE
        count = readable.sum().clamp(min=1)
        from_labels, figures = self.of_logits(own, examples)
        from_teacher = torch.where(readable, self.of_teacher(taught, told), 0.0).sum() / count
        agreement = (readable & (taught.argmax(1) == told.argmax(1))).sum() / count
        loss = (1 - self.share) * from_labels + self.share * from_teacher
        return loss, {**figures, "agreement": agreement}

    def _hard(self, logits: Logits, told: Logits) -> Float[Tensor, " b"]:
        """Cross-entropy with the class that the teacher tells (equation 3)."""
        return F.cross_entropy(logits, told.argmax(1), reduction="none")

    def _soft(self, logits: Logits, told: Logits) -> Float[Tensor, " b"]:
        """The Kullback-Leibler divergence of the student from its teacher, times the square of the temperature, which
        keeps its gradients as large as the labels' (equation 2).
        """
        own, asked = (F.log_softmax(each / self.temperature, dim=1) for each in (logits, told))
        return self.temperature**2 * F.kl_div(own, asked, reduction="none", log_target=True).sum(1)
