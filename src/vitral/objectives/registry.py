"""The registry of objectives: one line each."""

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, Union

from pydantic import Discriminator, Tag

from vitral.objectives.classification import ClassificationConfig, build_classification
from vitral.objectives.dino import DINOConfig, build_dino, validate_dino
from vitral.objectives.distillation import DistillationConfig, build_distillation, validate_distillation
from vitral.objectives.entry import BuildContext, NamedConfig, ObjectiveEntry, RunSettings, require_labels
from vitral.objectives.mae import MAEConfig, build_mae
from vitral.objectives.masked_patch import MaskedPatchConfig, build_masked_patch, validate_masked_patch
from vitral.objectives.multi_label import MultiLabelConfig, build_multi_label, validate_multi_label
from vitral.objectives.objective import Objective
from vitral.objectives.regression import RegressionConfig, build_regression, validate_regression
from vitral.objectives.self_supervised import refuse_probe

__all__ = ["OBJECTIVES", "ObjectiveConfig", "build_objective", "validate_objective"]

ENTRIES: tuple[ObjectiveEntry[Any], ...] = (
    ObjectiveEntry(
        name="classification", config=ClassificationConfig, build=build_classification, validate=require_labels
    ),
    ObjectiveEntry(name="multi_label", config=MultiLabelConfig, build=build_multi_label, validate=validate_multi_label),
    ObjectiveEntry(name="regression", config=RegressionConfig, build=build_regression, validate=validate_regression),
    ObjectiveEntry(
        name="distillation", config=DistillationConfig, build=build_distillation, validate=validate_distillation
    ),
    ObjectiveEntry(
        name="masked_patch", config=MaskedPatchConfig, build=build_masked_patch, validate=validate_masked_patch
    ),
    ObjectiveEntry(name="mae", config=MAEConfig, build=build_mae, validate=refuse_probe),
    ObjectiveEntry(name="dino", config=DINOConfig, build=build_dino, validate=validate_dino),
)

OBJECTIVES = {entry.name: entry for entry in ENTRIES}
"""Every objective by the name in its configuration."""


def _tag(config: Any) -> str:
    """The branch of the union that loaded values or a configuration belong to.

    Files that were written when classification was the only objective have no name. Brackets keep a tag out of the
    key that an error names (see `vitral.config`).
    """
    name = config.get("name", "classification") if isinstance(config, dict) else config.name
    return f"({name})"


if TYPE_CHECKING:  # a type checker cannot follow a union that is computed
    ObjectiveConfig: TypeAlias = NamedConfig
else:
    ObjectiveConfig = Annotated[
        Union[tuple(Annotated[entry.config, Tag(f"({entry.name})")] for entry in ENTRIES)],  # noqa: UP007
        Discriminator(_tag),
    ]
"""The configuration of any objective, for pydantic and tyro."""


def validate_objective(run: RunSettings) -> None:
    """Checks that the run's objective allows its other settings.

    Raises:
        UserError: it does not; the message names the setting and the fix.
    """
    OBJECTIVES[run.objective.name].validate(run)


def build_objective(config: ObjectiveConfig, context: BuildContext) -> Objective:
    """The objective that a configuration describes.

    Raises:
        UserError: it cannot be trained in this context.
    """
    return OBJECTIVES[config.name].build(config, context)
