"""The objectives that a run can have, by the name in its configuration."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from pydantic import Discriminator, Tag

from vitral.data.preprocess import Preprocessing
from vitral.objectives.classification import Classification, ClassificationConfig
from vitral.objectives.dino import DINOConfig, DINOLearner
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


def objective_of(config: ObjectiveConfig, preprocessing: Preprocessing) -> Objective:
    """The objective that a configuration describes, for images of this preprocessing."""
    if isinstance(config, ClassificationConfig):
        return Classification(config)
    return SelfSupervised(partial(LEARNERS[config.name], config=config, preprocessing=preprocessing))
