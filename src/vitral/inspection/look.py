"""Prediction and attention maps of a model for one image."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from vitral.card import ModelCard
from vitral.data.images.bands import BandImage
from vitral.data.images.preprocess import AnyImage, Preprocessing
from vitral.inspection.attention import attention_over_image, attention_weights, rollout
from vitral.vit import ViT

__all__ = ["Look", "look", "visible_part"]


@dataclass(frozen=True, kw_only=True)
class Look:
    """Prediction and attention maps of one image."""

    name: str
    """Name to show."""
    image: Image.Image
    """The part of the image that the model gets, in the image's proportions."""
    truth: str | None
    """True class, if known."""
    predicted: str | None
    """Most probable class, all labels or the number; None if the head was never trained."""
    probability: float | None
    """Probability of that class; None of labels and of a number."""
    is_number: bool = False
    """Whether the prediction is a number, which is neither right nor wrong."""
    rollout: Float[Tensor, "gh gw"]
    """Fraction of the rolled-out attention that each patch receives."""
    layers: Float[Tensor, "l gh gw"]
    """Fraction of each block's attention that each patch receives, averaged over heads."""


@torch.inference_mode()
def look(model: ViT, image: AnyImage, *, name: str, truth: str | None = None) -> Look:
    """Classifies one image and computes its attention maps.

    Args:
        model: a model in evaluation mode, with a card.
        image: as the preprocessing of the card reads it.
        name: name to show.
        truth: its true class, if known.

    Raises:
        UserError: the model has axial attention.
    """
    assert model.card is not None
    preprocessing, grid = model.card.preprocessing, model.config.grid
    preprocessing.check_one_size("a picture of what the model looks at")
    pixels = torch.from_numpy(preprocessing.pixels(image).copy())
    images = preprocessing.normalise(pixels[None].to(model.head.weight.device))
    predicted, probability = None, None
    if model.card.classes:
        predicted, probability = _answer(model(images)[0], model.card)
    weights = attention_weights(model, images)
    layers = [attention_over_image(layer.mean(dim=1), grid=grid, queries=model.pool_tokens)[0] for layer in weights]
    return Look(
        name=name,
        image=visible_part(image, preprocessing),
        truth=truth,
        predicted=predicted,
        probability=probability,
        is_number=model.card.target == "regression",
        rollout=attention_over_image(rollout(weights), grid=grid, queries=model.pool_tokens)[0].cpu(),
        layers=torch.stack(layers).cpu(),
    )


def _answer(outputs: Float[Tensor, " classes"], card: ModelCard) -> tuple[str, float | None]:
    """The prediction in words, and the probability of a class."""
    if card.target == "regression":
        return f"{outputs[0].item():.4g}", None
    if card.target == "multi-label":
        has = (outputs.cpu().double().sigmoid() >= torch.tensor(card.label_thresholds, dtype=torch.float64)).tolist()
        return ", ".join(name for name, label in zip(card.classes, has, strict=True) if label) or "no label", None
    highest, index = outputs.softmax(dim=0).max(dim=0)
    return card.classes[int(index)], highest.item()


def visible_part(image: AnyImage, preprocessing: Preprocessing) -> Image.Image:
    """The part of an image that preprocessing keeps, at about the image's resolution."""
    if preprocessing.resize == "squash":
        return preprocessing.picture(image)
    height, width = preprocessing.image_size
    scale = max(min(image.height // height, image.width // width), 1)
    pixels = replace(preprocessing, image_size=(scale * height, scale * width)).pixels(image)
    if preprocessing.bands:
        return preprocessing.picture(BandImage(values=pixels))
    return Image.fromarray(pixels[:, :, 0] if preprocessing.channels == 1 else pixels)
