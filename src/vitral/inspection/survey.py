"""What is seen inside one model: its looks at some images, distances over many, tokens, and relevance for classes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vitral.data.images.preprocess import AnyImage
from vitral.errors import UserError
from vitral.inspection.attention import attention_distance, attention_weights
from vitral.inspection.look import Look, look
from vitral.inspection.relevance import class_relevance
from vitral.inspection.tokens import token_colours, token_norms
from vitral.vit import ViT

__all__ = ["NUM_DISTANCE_IMAGES", "Sample", "Survey", "uniform_distance"]

NUM_DISTANCE_IMAGES = 128
"""Images that attention distances are means over, as in the paper (appendix D.7)."""

DISTANCE_BATCH = 8
"""Images whose attention weights are in memory together."""

NUM_CLASSES = 2
"""Most probable classes whose relevance is computed."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An image to look at."""

    name: str
    image: AnyImage
    """As the model's preprocessing reads it."""
    truth: str | None = None
    """Its true class, if known."""


class Survey:
    """A model and the images it is shown. Everything is computed when it is first asked for.

    Args:
        model: in evaluation mode, with a card.
        samples: called for a new pass over the images, which are read one by one.
        count: number of images to draw.
    """

    def __init__(self, model: ViT, samples: Callable[[], Iterator[Sample]], *, count: int) -> None:
        self.model, self._pass, self._count = model, samples, count

    @cached_property
    def samples(self) -> list[Sample]:
        """The images to draw.

        Raises:
            UserError: there are none, or one cannot be read.
        """
        samples = list(islice(self._pass(), self._count))
        if not samples:
            raise UserError("no held-out image can be read: give images to draw")
        return samples

    @cached_property
    def looks(self) -> list[Look]:
        """Prediction and attention of each image to draw."""
        return [look(self.model, sample.image, name=sample.name, truth=sample.truth) for sample in self.samples]

    @cached_property
    def distances(self) -> tuple[Float[Tensor, "l heads"], int]:
        """Mean attention distance of every head in pixels, and the number of images that it is a mean over."""
        config, total, count = self.model.config, torch.zeros(()), 0
        images = islice(self._pass(), NUM_DISTANCE_IMAGES)
        while samples := list(islice(images, DISTANCE_BATCH)):
            weights = attention_weights(self.model, torch.cat([self.pixels(sample) for sample in samples]))
            means = [attention_distance(layer, grid=config.grid, patch_size=config.patch_hw) for layer in weights]
            total = total + len(samples) * torch.stack(means).cpu()
            count += len(samples)
        if not count:
            raise UserError("no held-out image can be read: give images to draw")
        return total / count, count

    @torch.inference_mode()
    def tokens(self) -> tuple[Float[np.ndarray, "b gh gw 3"], Float[Tensor, "b gh gw"]]:
        """Final patch tokens of each image as colours, and their norms before the final norm."""
        final, norms, (gh, gw) = [], [], self.model.config.grid
        last, prefix = f"blocks.{self.model.config.depth - 1}", self.model.config.num_prefix_tokens
        for sample in self.samples:
            features = self.model.features(self.pixels(sample))
            final.append(features.patches.cpu())
            norms.append(token_norms(features.landmarks[last][:, prefix:]).cpu())
        colours = token_colours(torch.cat(final))
        return (
            rearrange(colours, "b (gh gw) rgb -> b gh gw rgb", gh=gh),
            rearrange(torch.cat(norms), "b (gh gw) -> b gh gw", gw=gw),
        )

    def relevance(self) -> tuple[list[Float[Tensor, "k gh gw"]], list[list[str]]]:
        """Relevance of each image's patches for its most probable classes, and the names of these classes.

        Raises:
            UserError: the head was never trained.
        """
        card = self.model.card
        assert card is not None
        if not card.classes and card.target != "regression":
            raise UserError("this model has no trained head, so there is no class whose relevance could be drawn")
        maps, names = [], []
        for sample in self.samples:
            pixels = self.pixels(sample)
            with torch.inference_mode():
                logits = self.model(pixels)[0]
            top = logits.topk(min(NUM_CLASSES, len(logits))).indices.tolist()
            maps.append(class_relevance(self.model, pixels, top).cpu())
            names.append(["the number"] if card.target == "regression" else [card.classes[index] for index in top])
        return maps, names

    def pixels(self, sample: Sample) -> Float[Tensor, "1 c h w"]:
        """The model's input."""
        assert self.model.card is not None
        preprocessing = self.model.card.preprocessing
        preprocessing.check_one_size("a picture of what the model looks at")
        pixels = torch.from_numpy(preprocessing.pixels(sample.image).copy())
        return preprocessing.normalise(pixels[None].to(self.model.head.weight.device))


def uniform_distance(grid: tuple[int, int], patch_size: tuple[int, int]) -> float:
    """Mean attention distance in pixels of a head that attends to all patches alike."""
    count = grid[0] * grid[1]
    weights = torch.full((1, 1, count, count), 1 / count)
    return float(attention_distance(weights, grid=grid, patch_size=patch_size))
