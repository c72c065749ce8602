"""Entries of the objectives' registry, and the parts of a run that objectives are built and validated from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from vitral.data.augment.config import AugmentConfig
from vitral.data.config import DataConfig
from vitral.data.images.preprocess import Preprocessing
from vitral.errors import UserError
from vitral.objectives.objective import Objective

__all__ = [
    "BuildContext",
    "EvaluateBy",
    "NamedConfig",
    "ObjectiveEntry",
    "RunSettings",
    "Teacher",
    "require_labels",
    "require_pictures",
]

Config = TypeVar("Config")

EvaluateBy = Literal["labels", "features"]
"""Whether evaluation measures the model's predictions, or probes its features."""

Teacher = Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b classes"]]
"""A frozen model: from a batch in the student's range to the teacher's logits."""


@dataclass(frozen=True, kw_only=True)
class BuildContext:
    """The parts of a run that an objective is built from."""

    preprocessing: Preprocessing
    """How the batches are made."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the model's logits."""
    device: torch.device
    compiled: bool
    """Whether models run through torch.compile."""
    accumulate: int
    """Parts that each batch is split into."""
    load_teacher: Callable[..., Teacher]
    """Loads a trained model as a teacher from its path, this context, and options for reading its file.

    It is passed in, because objectives may not import `vitral.weights`.
    """


@runtime_checkable
class NamedConfig(Protocol):
    """The fields that the configurations of all objectives share."""

    evaluate_by: ClassVar[EvaluateBy]

    @property
    def name(self) -> str:
        """Name in the registry."""
        ...


@runtime_checkable
class ModelSettings(Protocol):
    """See `RunSettings`."""

    @property
    def probe(self) -> bool:
        """Whether the run trains a linear probe."""
        ...


@runtime_checkable
class TrainSettings(Protocol):
    """See `RunSettings`."""

    @property
    def ema(self) -> float | None:
        """Decay of the weights' moving average."""
        ...


@runtime_checkable
class RunSettings(Protocol):
    """The parts of a `RunConfig` that objectives validate."""

    @property
    def objective(self) -> NamedConfig: ...
    @property
    def data(self) -> DataConfig: ...
    @property
    def augment(self) -> AugmentConfig: ...
    @property
    def model(self) -> ModelSettings: ...
    @property
    def train(self) -> TrainSettings: ...
    @property
    def training_grids(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of patches of all image sizes of the run; none of a ResNet."""
        ...


@dataclass(frozen=True, kw_only=True)
class ObjectiveEntry(Generic[Config]):
    """One objective of the registry."""

    name: str
    """Value of its configuration's `name`."""
    config: type[Config]
    build: Callable[[Config, BuildContext], Objective]
    """Raises UserError if the objective cannot be trained in this context."""
    validate: Callable[[RunSettings], None]
    """Raises UserError for settings of a run that the objective does not allow."""


def require_labels(run: RunSettings) -> None:
    """Validates a run whose objective learns classes.

    Raises:
        UserError: its data have none.
    """
    if run.data.target != "class":
        raise UserError(
            f"--data.target {run.data.target} has no single class for each image, which {run.objective.name} learns: "
            "leave it out, or choose another recipe"
        )
    if run.data.source == "images":
        raise UserError(
            "--data.source images has no classes to learn: choose --data.source folder, or a recipe that learns "
            "without labels, such as masked-patch"
        )


def require_pictures(run: RunSettings) -> None:
    """Validates a run whose objective learns from grey or colour pictures.

    Raises:
        UserError: its images have any number of channels.
    """
    if run.data.channels is not None:
        raise UserError(
            f"{run.objective.name} learns from grey or colour pictures, not from images of {run.data.channels} "
            "channels (--data.channels)"
        )
