"""What a model makes of one image, and where it looks to find out."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from vitral.data.preprocess import Preprocessing
from vitral.inspection.attention import attention_over_image, attention_weights, rollout
from vitral.vit import ViT

__all__ = ["Look", "look"]


@dataclass(frozen=True, kw_only=True)
class Look:
    """One image through the eyes of a model."""

    name: str
    """What to call the image."""
    image: Image.Image
    """The part of the image that the model saw, in the image's own proportions."""
    truth: str | None
    """True class, where it is known."""
    predicted: str
    """Most probable class."""
    probability: float
    """Probability of that class."""
    rollout: Float[Tensor, "gh gw"]
    """Share of each patch in what the model concludes."""
    layers: Float[Tensor, "l gh gw"]
    """Share of each patch in the attention of every block, heads averaged."""


@torch.inference_mode()
def look(model: ViT, image: Image.Image, *, name: str, truth: str | None = None) -> Look:
    """Classifies one image and follows the attention.

    Args:
        model: in evaluation mode, with its card.
        image: upright, of mode "L" or "RGB" as the model takes it.
        name: what to call the image.
        truth: its true class, where it is known.

    Raises:
        ValueError: the model has no attention among all its patches.
    """
    assert model.card is not None
    preprocessing, grid = model.card.preprocessing, model.config.grid
    pixels = torch.from_numpy(preprocessing.pixels(image).copy())
    images = preprocessing.normalise(pixels[None].to(model.head.weight.device))
    probability, index = model(images)[0].softmax(dim=0).max(dim=0)
    weights = attention_weights(model, images)
    layers = [attention_over_image(layer.mean(dim=1), grid=grid, queries=model.pool_tokens)[0] for layer in weights]
    return Look(
        name=name,
        image=_seen(image, preprocessing),
        truth=truth,
        predicted=model.card.classes[int(index)],
        probability=probability.item(),
        rollout=attention_over_image(rollout(weights), grid=grid, queries=model.pool_tokens)[0].cpu(),
        layers=torch.stack(layers).cpu(),
    )


def _seen(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """The part of an image that preprocessing keeps, in about the image's own resolution."""
    if preprocessing.resize == "squash":
        return image
    height, width = preprocessing.image_size
    scale = max(min(image.height // height, image.width // width), 1)
    pixels = replace(preprocessing, image_size=(scale * height, scale * width)).pixels(image)
    return Image.fromarray(pixels[:, :, 0] if preprocessing.channels == 1 else pixels)
