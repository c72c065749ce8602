"""Every study by name. Importing this registry does not import PyTorch."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

__all__ = ["STUDIES", "StudyEntry", "load_study"]


@dataclass(frozen=True)
class StudyEntry:
    """Where a study is, and what it is about."""

    attribute: str
    """`module:NAME` in this package."""
    source: str
    """Table or figure of the paper."""
    summary: str


STUDIES: dict[str, StudyEntry] = {
    "positions": StudyEntry("positions:POSITIONS", "Table 8", "position embeddings, and where they are added"),
    "head": StudyEntry("head:HEAD", "Figure 9", "class token, mean, attention pooling, at three rates each"),
    "data-size": StudyEntry("data_size:DATA_SIZE", "Figure 4", "ViTs and a BiT ResNet on few and many images"),
    "shape": StudyEntry("shape:SHAPE", "Figure 8", "depth, width, MLP, patch size, and all together"),
    "resolution": StudyEntry("resolution:RESOLUTION", "Section 3.2", "fine-tuning at higher resolutions"),
    "axial": StudyEntry("axial:AXIAL", "Figure 13", "attention along rows and columns"),
    "optimiser": StudyEntry("optimiser:OPTIMISER", "Table 7", "BiT ResNets pre-trained with Adam or SGD"),
    "masked-patch": StudyEntry("masked_patch:MASKED_PATCH", "Section 4.6", "targets and fractions of masked patches"),
    "pretraining": StudyEntry("pretraining:PRETRAINING", "Figure 3", "three ViTs, pre-trained on few and many images"),
    "cost": StudyEntry("cost:COST", "Figure 5", "transfer against the arithmetic of ViTs, hybrids and BiT ResNets"),
    "fine-tuning": StudyEntry("fine_tuning:FINE_TUNING", "Table 4", "the learning rates of the paper's grid"),
    "transfer": StudyEntry("transfer:TRANSFER_STUDY", "Tables 2, 9", "ViTs and a BiT ResNet on groups of small tasks"),
    "speed": StudyEntry("speed:SPEED_STUDY", "Figure 12", "speed and largest batch against the input size"),
    "augreg": StudyEntry("augreg:AUGREG", "2106.10270", "augmentation and regularisation on few and many images"),
}


def load_study(name: str) -> Any:
    """The `Study` of a name."""
    module, attribute = STUDIES[name].attribute.split(":")
    return getattr(import_module(f"vitral.studies.{module}"), attribute)
