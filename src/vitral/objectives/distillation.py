"""Distillation: learning from labels and from a teacher, hard or soft, with or without DeiT's distillation token."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
import tyro
from jaxtyping import Float
from torch import Tensor

from vitral.config import renamed
from vitral.data.augment.mixing import Examples
from vitral.data.batches import UNREADABLE
from vitral.errors import UserError
from vitral.layers.pooling import TwoHeads
from vitral.models import Model
from vitral.objectives.classification import Classification, ClassificationConfig
from vitral.objectives.entry import (
    BuildContext,
    EvaluateBy,
    RunSettings,
    Teacher,
    require_labels,
    require_pictures,
)
from vitral.objectives.objective import Metrics

__all__ = ["Distillation", "DistillationConfig", "build_distillation", "validate_distillation"]

Logits = Float[Tensor, "b classes"]


@renamed(keys={"share": "teacher_weight"})
@dataclass(frozen=True, kw_only=True)
class DistillationConfig:
    """The teacher of a student, and the weight of its loss beside that of the labels.

    Raises:
        UserError: a value is out of range.
    """

    evaluate_by: ClassVar[EvaluateBy] = "labels"
    name: tyro.conf.Suppress[Literal["distillation"]] = "distillation"
    teacher: Path | None = None
    """The trained model to learn from: a run's folder, another project's file, hf-hub:OWNER/NAME."""
    teacher_checkpoint_key: str | None = None
    """Key of the teacher's weights in a PyTorch file that holds several, such as student."""
    teacher_prefix: str | None = None
    """Prefix of the teacher's tensors in a larger model, such as backbone."""
    teacher_num_heads: int | None = None
    """Number of the teacher's attention heads, if its file does not store it."""
    teacher_gelu: Literal["tanh", "erf", "quick"] | None = None
    """The teacher's form of GELU, if its file does not store it."""
    form: Literal["hard", "soft"] = "hard"
    """`hard`: the teacher's predicted class is a second label. `soft`: the student matches the teacher's probabilities
    (arXiv 1503.02531).
    """
    temperature: float = 3.0
    """Soft distillation divides the logits of student and teacher by it."""
    teacher_weight: float = 0.5
    """Weight of the teacher's loss; the labels' loss has the rest. With 1, labels are not used."""
    labels: ClassificationConfig = field(default_factory=ClassificationConfig)
    """The labels' loss."""

    def __post_init__(self) -> None:
        if not 0 < self.teacher_weight <= 1:
            raise UserError(f"--objective.teacher-weight must be above 0 and at most 1, not {self.teacher_weight}")
        if self.labels.class_weights != "none":
            raise UserError("distillation learns from a teacher too: set --objective.labels.class-weights none")
        if not self.temperature > 0:
            raise UserError(f"--objective.temperature must be above 0, not {self.temperature}")
        if self.teacher_num_heads is not None and self.teacher_num_heads < 1:
            raise UserError(f"--objective.teacher-num-heads must be at least 1, not {self.teacher_num_heads}")

    @property
    def reading(self) -> dict[str, Any]:
        """Keywords of `vitral.load` for the teacher's file."""
        options = {name: getattr(self, f"teacher_{name}") for name in ("checkpoint_key", "prefix", "num_heads", "gelu")}
        return {name: value for name, value in options.items() if value is not None}


class Distillation(Classification):
    """The weighted sum of the labels' loss and the teacher's ("Training data-efficient image transformers &
    distillation through attention", arXiv 2012.12877, section 4).

    In a model with a distillation token, the class token's head learns from labels and the other head from the teacher;
    in any other model the only head learns from both. Student and teacher see the same mixed and cropped images, as in
    "A good teacher is patient and consistent" (arXiv 2106.05237).
    """

    def __init__(self, config: DistillationConfig, teacher: Teacher) -> None:
        super().__init__(config.labels)
        self.teacher_weight, self.temperature = config.teacher_weight, config.temperature
        self.teacher_loss = {"hard": self._hard, "soft": self._soft}[config.form]
        self.teacher = teacher

    def learner(self, model: Model) -> Model:
        """See `Objective`: the model. If it has two heads, it returns the logits of both in training."""
        if isinstance(model.head, TwoHeads):
            model.head.return_both = True
        return model

    def loss(
        self, forward: Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b *two classes"]], examples: Examples
    ) -> tuple[Float[Tensor, ""], Metrics]:
        """See `Objective`; `agreement` is the fraction of images for which student and teacher predict one class."""
        logits = forward(examples.images).float()
        label_logits, distilled_logits = logits.unbind(1) if logits.ndim == 3 else (logits, logits)
        with torch.no_grad():
            targets = self.teacher(examples.images).float()
        readable = examples.labels != UNREADABLE
        count = readable.sum().clamp(min=1)
        label_loss, metrics = self.loss_of_logits(label_logits, examples)
        teacher_loss = torch.where(readable, self.teacher_loss(distilled_logits, targets), 0.0).sum() / count
        agreement = (readable & (distilled_logits.argmax(1) == targets.argmax(1))).sum() / count
        loss = (1 - self.teacher_weight) * label_loss + self.teacher_weight * teacher_loss
        return loss, {**metrics, "agreement": agreement}

    def _hard(self, logits: Logits, targets: Logits) -> Float[Tensor, " b"]:
        """Cross-entropy with the teacher's predicted class (equation 3)."""
        return F.cross_entropy(logits, targets.argmax(1), reduction="none")

    def _soft(self, logits: Logits, targets: Logits) -> Float[Tensor, " b"]:
        """The Kullback-Leibler divergence of the student from its teacher, times the square of the temperature, which
        keeps its gradients as large as those of the labels' loss (equation 2).
        """
        student, teacher = (F.log_softmax(each / self.temperature, dim=1) for each in (logits, targets))
        return self.temperature**2 * F.kl_div(student, teacher, reduction="none", log_target=True).sum(1)


def validate_distillation(run: RunSettings) -> None:
    """See `ObjectiveEntry`.

    Raises:
        UserError: the run has no classes, or no pictures.
    """
    require_labels(run)
    require_pictures(run)


def build_distillation(config: DistillationConfig, context: BuildContext) -> Distillation:
    """See `ObjectiveEntry`.

    Raises:
        UserError: no teacher is named, or it does not fit the student's images and classes.
    """
    if config.teacher is None:
        raise UserError("distillation needs a trained model to learn from: name one with --objective.teacher")
    return Distillation(config, context.load_teacher(config.teacher, context, **config.reading))
