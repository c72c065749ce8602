"""The objectives that a run can have, by the name in its configuration."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Tag

from vitral.data.images.preprocess import Preprocessing
from vitral.objectives.classification import Classification, ClassificationConfig
from vitral.objectives.dino import DINOConfig, DINOLearner
from vitral.objectives.distillation import Distillation, DistillationConfig, Teacher
from vitral.objectives.mae import MAEConfig, MAELearner
from vitral.objectives.masked_patch import MaskedPatchConfig, MaskedPatchLearner
from vitral.objectives.objective import Objective
from vitral.objectives.self_supervised import Learner, SelfSupervised

__all__ = ["ObjectiveConfig", "objective_of"]


def _name(values: Any) -> str:
    """Which objective plain values describe; those of before there was another have no name."""
    name = values.get("name", "classification") if isinstance(values, dict) else values.name
    return f"({name})"


ObjectiveConfig = Annotated[
    Annotated[ClassificationConfig, Tag("(classification)")]
    | Annotated[DistillationConfig, Tag("(distillation)")]
    | Annotated[MaskedPatchConfig, Tag("(masked_patch)")]
    | Annotated[MAEConfig, Tag("(mae)")]
    | Annotated[DINOConfig, Tag("(dino)")],
    Discriminator(_name),
]
"""The configuration of any objective."""

LEARNERS: dict[str, Callable[..., Learner]] = {
    "masked_patch": MaskedPatchLearner,
    "mae": MAELearner,
    "dino": DINOLearner,
}
"""What learns without labels."""


def objective_of(
    config: ObjectiveConfig, preprocessing: Preprocessing, *, read_teacher: Callable[[Path | None], Teacher]
) -> Objective:
    """The objective that a configuration describes, for images of this preprocessing.

    Args:
        config: any.
        preprocessing: what images are made by.
        read_teacher: called where there is one.
    """
    if isinstance(config, ClassificationConfig):
        return Classification(config)
    if isinstance(config, DistillationConfig):
        return Distillation(config, read_teacher(config.teacher))
    return SelfSupervised(partial(LEARNERS[config.name], config=config, preprocessing=preprocessing))
