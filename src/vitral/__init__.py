"""Vitral: train, evaluate, inspect and convert Vision Transformers.

The names below are imported on first access, so that `import vitral` alone is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitral.card import ModelCard
    from vitral.commands.train_from_python import train
    from vitral.data.images.decode import UnreadableImage
    from vitral.data.images.preprocess import Preprocessing
    from vitral.models import create
    from vitral.serve.predictor import Failure, Prediction, Predictor
    from vitral.vit import ViT
    from vitral.vit_config import ViTConfig
    from vitral.weights.load import load

__version__ = "0.1.0"

__all__ = [
    "Failure",
    "ModelCard",
    "Prediction",
    "Predictor",
    "Preprocessing",
    "UnreadableImage",
    "ViT",
    "ViTConfig",
    "create",
    "load",
    "train",
]

_HOMES = {
    "UnreadableImage": "vitral.data.images.decode",
    "Failure": "vitral.serve.predictor",
    "ModelCard": "vitral.card",
    "Prediction": "vitral.serve.predictor",
    "Predictor": "vitral.serve.predictor",
    "Preprocessing": "vitral.data.images.preprocess",
    "ViT": "vitral.vit",
    "ViTConfig": "vitral.vit_config",
    "create": "vitral.models",
    "load": "vitral.weights.load",
}

_CALLABLE_PACKAGES = {"train": "vitral.train"}

_OLD_NAMES = {"BrokenImage": "UnreadableImage"}


def __getattr__(name: str) -> Any:
    name = _OLD_NAMES.get(name, name)
    if name in _CALLABLE_PACKAGES:
        return import_module(_CALLABLE_PACKAGES[name])
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
