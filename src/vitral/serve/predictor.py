"""From image files to class names."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from vitral.card import ModelCard
from vitral.data.images.decode import UnreadableImage, read_image
from vitral.device import pick_device
from vitral.errors import UserError
from vitral.models import Model
from vitral.vit import ViT
from vitral.weights.folder import ModelConfig
from vitral.weights.load import load

__all__ = ["Failure", "Prediction", "Predictor"]

ImageLike = str | Path | bytes | Image.Image | np.ndarray
"""A file's path, a file's content, an image already open, or its pixels: uint8, of shape (h w), (h w 1) or (h w 3)."""

READERS = 4
"""Threads that read files; decoding leaves Python's lock alone most of the time."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The most probable classes of one image."""

    name: str
    """The image's path, or its place among the images such as `images[3]`."""
    classes: tuple[str, ...]
    """Most probable class first."""
    probabilities: tuple[float, ...]
    """Of these classes."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An image that could not be read."""

    name: str
    """As in `Prediction`."""
    reason: str
    """One sentence, with the name in it."""


class Predictor:
    """Classifies images with a trained model, preprocessed as in its training.

    A model given as such is used in place: it is moved to the device and put into evaluation mode.
    """

    def __init__(self, model: Model | str | Path, *, device: str | torch.device = "auto", batch_size: int = 64) -> None:
        """
        Args:
            model: a model with its card, or where one is, as `vitral.load` takes it.
            device: such as `cpu` or `cuda:1`; auto takes a GPU where there is one.
            batch_size: images that are computed together, and held in memory at most.

        Raises:
            UserError: the folder is no model, the model has no card or one that does not fit it, there is no such
                device, or `batch_size` is below 1.
        """
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, not {batch_size}")
        self.device = pick_device(device)
        self.model = model.to(self.device).eval() if isinstance(model, Model) else load(model, device=self.device)
        self.batch_size = batch_size
        self.card = _fitting_card(self.model)

    def predict(self, images: Iterable[ImageLike], *, top_k: int | None = None) -> Iterator[Prediction | Failure]:
        """Classifies images as they come, in their order, a batch in memory at a time.

        Args:
            images: paths, contents of files, PIL images, or uint8 arrays of shape (h w), (h w 1) or (h w 3), mixed at
                will.
            top_k: how many classes to name; the 5 most probable, or all where there are fewer, when None.

        Raises:
            UserError: `images` is a single image, or `top_k` below 1 or more than the model's classes; when its turn
                comes, an array is no image.
            TypeError: when its turn comes, something is no image at all.
        """
        if isinstance(images, str | Path | bytes | Image.Image):
            raise UserError("predict takes many images, not a single one: give a list of images")
        count = self._top_k(top_k)
        return self._predict(images, count)

    def __call__(self, image: ImageLike, *, top_k: int | None = None) -> Prediction:
        """Classifies one image.

        Raises:
            UnreadableImage: the image cannot be read.
            ValueError, TypeError: as in `predict`.
        """
        count = self._top_k(top_k)
        name = _name(image, 0)
        _check(image, name)
        return self._prediction(name, *self._rank([self._read(image, name)], count)[0])

    @torch.inference_mode()
    def logits(self, images: UInt8[Tensor, "b h w c"]) -> Float[Tensor, "b classes"]:
        """Logits of images as preprocessing read them; on a GPU computed in bfloat16."""
        with self._arithmetic():
            return self.model(self.card.preprocessing.normalise(images.to(self.device))).float()

    @torch.inference_mode()
    def extract_features(self, images: UInt8[Tensor, "b h w c"]) -> Float[Tensor, "b d"]:
        """FeatureSet before the head (y of Eq. 4) of images as preprocessing read them."""
        with self._arithmetic():
            return self.model.features(self.card.preprocessing.normalise(images.to(self.device))).pooled.float()

    @torch.inference_mode()
    def patches(self, images: UInt8[Tensor, "b h w c"]) -> Float[Tensor, "b gh gw d"]:
        """Final patch tokens in their grid, of a Vision Transformer, on the CPU."""
        assert isinstance(self.model, ViT)
        with self._arithmetic():
            tokens = self.model.features(self.card.preprocessing.normalise(images.to(self.device))).patches
        return rearrange(tokens.float().cpu(), "b (gh gw) d -> b gh gw d", gh=self.model.config.grid[0])

    def _predict(self, images: Iterable[ImageLike], top_k: int) -> Iterator[Prediction | Failure]:
        numbered = enumerate(images)
        with ThreadPoolExecutor(READERS) as readers:
            while batch := list(islice(numbered, self.batch_size)):
                names = [_name(image, number) for number, image in batch]
                for name, (_, image) in zip(names, batch, strict=True):
                    _check(image, name)
                read = list(readers.map(self._read_or_fail, [image for _, image in batch], names))
                pixels = [outcome for outcome in read if isinstance(outcome, np.ndarray)]
                ranked = iter(self._rank(pixels, top_k) if pixels else [])
                for name, outcome in zip(names, read, strict=True):
                    yield outcome if isinstance(outcome, Failure) else self._prediction(name, *next(ranked))

    def _read(self, image: ImageLike, name: str) -> UInt8[np.ndarray, "h w c"]:
        file = Path(image) if isinstance(image, str) else image
        if isinstance(file, np.ndarray):
            file = Image.fromarray(file[:, :, 0] if file.ndim == 3 and file.shape[2] == 1 else file)
        return self.card.preprocessing.pixels(read_image(file, channels=self.card.preprocessing.channels, name=name))

    def _read_or_fail(self, image: ImageLike, name: str) -> UInt8[np.ndarray, "h w c"] | Failure:
        try:
            return self._read(image, name)
        except UnreadableImage as error:
            return Failure(name=name, reason=str(error))

    def _rank(self, images: list[UInt8[np.ndarray, "h w c"]], top_k: int) -> list[tuple[list[int], list[float]]]:
        """The most probable classes of each image, and their probabilities."""
        logits = self.logits(torch.from_numpy(np.stack(images)))
        probabilities, classes = logits.softmax(dim=1).topk(top_k)
        return list(zip(classes.tolist(), probabilities.tolist(), strict=True))

    def _prediction(self, name: str, classes: list[int], probabilities: list[float]) -> Prediction:
        names = tuple(self.card.classes[index] for index in classes)
        return Prediction(name=name, classes=names, probabilities=tuple(probabilities))

    def _top_k(self, wanted: int | None) -> int:
        most = len(self.card.classes)
        if wanted is not None and not 1 <= wanted <= most:
            raise UserError(f"the model has {most} classes, so between 1 and {most} can be named, not {wanted}")
        return min(5, most) if wanted is None else wanted

    def _arithmetic(self) -> AbstractContextManager:
        on_gpu = self.device.type == "cuda"
        return torch.autocast("cuda", torch.bfloat16) if on_gpu else nullcontext()


def _name(image: ImageLike, number: int) -> str:
    return str(image) if isinstance(image, str | Path) else f"images[{number}]"


def _check(image: object, name: str) -> None:
    """Refuses what can be no image, before anything is decoded."""
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3))):
            raise UserError(
                f"{name} is an array of {image.dtype} and shape {image.shape}: "
                "give uint8 of shape (height, width), (height, width, 1) or (height, width, 3)"
            )
    elif not isinstance(image, str | Path | bytes | Image.Image):
        raise TypeError(
            f"{name} is of type {type(image).__name__}: give a path, a file's content, a PIL image or a uint8 array"
        )


def _fitting_card(model: Model) -> ModelCard:
    if model.card is None:
        raise UserError(
            "the model has no card, which tells preprocessing and class names: "
            "set model.card to a vitral.ModelCard, or load the model from its folder with vitral.load"
        )
    return ModelConfig(architecture=model.config, card=model.card).card
