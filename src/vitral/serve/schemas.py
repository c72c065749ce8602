"""What the HTTP interface answers, for the OpenAPI document."""

from typing import Any

import torch
from pydantic import BaseModel, Field

from vitral.card import ModelCard
from vitral.serve.engine import Outcome
from vitral.serve.predictor import rank
from vitral.serve.service import Service

__all__ = ["FeatureAnswer", "ModelList", "PredictAnswer", "as_model", "as_outcome", "predicted"]

NAME = Field(description="The file's name, or its position such as images[3].")
SHA256 = Field(description="SHA-256 of the image's bytes, in hexadecimal.")
ERROR = Field(default=None, description="Why the image was not read; other images of the request are.")


CLASSES = (
    "Most probable first. Where images have several labels: those from their thresholds on, unless top_k is given."
)


class ClassProbability(BaseModel):
    """A class and its probability."""

    class_: str = Field(alias="class")
    probability: float


class ImageClasses(BaseModel):
    """The most probable classes of an image, all labels that it has, or its number."""

    name: str = NAME
    sha256: str = SHA256
    classes: list[ClassProbability] | None = Field(default=None, description=CLASSES)
    value: float | None = Field(default=None, description="The number, if the model predicts one.")
    error: str | None = ERROR


class PredictAnswer(BaseModel):
    """Predictions in the order of the images."""

    model: str
    images: list[ImageClasses]


class ImageFeatures(BaseModel):
    """The features of an image."""

    name: str = NAME
    sha256: str = SHA256
    features: list[float] | None = Field(default=None, description="What the head receives: y of the paper's Eq. 4.")
    error: str | None = ERROR


class FeatureAnswer(BaseModel):
    """Features in the order of the images."""

    model: str
    images: list[ImageFeatures]


class ModelEntry(BaseModel):
    """A model that is served."""

    name: str
    architecture: str
    parameters: int
    image_size: tuple[int, int] = Field(description="Height and width of the input in pixels.")
    classes: list[str] = Field(description="Empty if the head was never trained.")
    backend: str = Field(description="What computes it: eager, compile, onnx and so on.")
    features: bool = Field(description="Whether /v1/features answers.")
    attention: bool = Field(description="Whether /v1/attention draws it.")
    layers: int = Field(description="Layers that /v1/attention takes; 0 if it draws nothing.")
    ready: bool
    metrics: dict[str, float] = Field(description="Results of its evaluation, as fractions.")


class ModelList(BaseModel):
    """The models that are served; the first is the default."""

    models: list[ModelEntry]


def as_model(service: Service) -> dict[str, Any]:
    """A model as `ModelEntry` has it."""
    facts, card = service.facts, service.card
    return {
        "name": service.name,
        "architecture": facts.architecture,
        "parameters": facts.parameters,
        "image_size": card.preprocessing.image_size,
        "classes": card.classes,
        "backend": facts.backend,
        "features": "features" in facts.tasks,
        "attention": "attention" in facts.tasks,
        "layers": facts.layers,
        "ready": service.ready,
        "metrics": card.metrics,
    }


def as_outcome(outcome: Outcome, key: str, value: Any) -> dict[str, Any]:
    """An image as the answers have it, with its result under `key` or why there is none."""
    result = {"error": outcome.problem.detail} if outcome.problem else {key: value}
    return {"name": outcome.name, "sha256": outcome.sha256, **result}


def predicted(outcome: Outcome, card: ModelCard, top_k: int | None) -> dict[str, Any]:
    """An image as `ImageClasses` has it, from the result of the task probabilities."""
    if outcome.problem or card.target == "regression":
        return as_outcome(outcome, "value", outcome.problem or float(outcome.result[0]))
    ranked = rank(torch.from_numpy(outcome.result), card, top_k)
    classes = [{"class": card.classes[index], "probability": probability} for index, probability in ranked]
    return as_outcome(outcome, "classes", classes)
