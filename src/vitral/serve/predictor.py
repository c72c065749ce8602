"""Image classification with a trained model: from image files to class names."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from vitral.card import ModelCard
from vitral.data.images.decode import UnreadableImage
from vitral.data.images.preprocess import PixelBatch, Pixels
from vitral.device import pick_device
from vitral.errors import UserError, unknown_name
from vitral.export.exported import ExportedModel, is_exported, load_exported
from vitral.inspection.attention import attention_over_image, attention_weights, rollout
from vitral.models import Model
from vitral.vit import ViT
from vitral.weights.folder import ModelConfig
from vitral.weights.load import load

__all__ = ["Failure", "Precision", "Prediction", "Predictor"]

Precision = Literal["auto", "float32", "bfloat16"]
"""Arithmetic of a model; auto is bfloat16 on a GPU and float32 on a CPU."""

ImageLike = str | Path | bytes | Image.Image | np.ndarray
"""The path or the content of a file, a PIL image, or a uint8 array of shape (h w), (h w 1) or (h w 3).

A model of images of any number of channels takes arrays of numbers, with channels first or last.
"""

NUM_READERS = 4
"""Threads that read files; decoding releases Python's global lock most of the time."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The most probable classes of one image."""

    name: str
    """The image's path, or its position in the input such as `images[3]`."""
    classes: tuple[str, ...]
    """Most probable class first."""
    probabilities: tuple[float, ...]
    """Probabilities of these classes."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An image that could not be read."""

    name: str
    """As in `Prediction`."""
    reason: str
    """The error message, which includes the name."""


class Predictor:
    """Classifies images with a trained model, with the preprocessing of its training.

    A model object is not copied: it is moved to the device and put into evaluation mode.
    """

    def __init__(
        self,
        model: Model | ExportedModel | str | Path,
        *,
        device: str | torch.device = "auto",
        batch_size: int = 64,
        precision: str = "auto",
    ) -> None:
        """
        Args:
            model: a model with its card, or the path or name of one, as in `vitral.load`, or of an exported file.
            device: such as `cpu` or `cuda:1`; auto is a GPU if there is one.
            batch_size: images that are computed together, and held in memory at most.
            precision: of the arithmetic, one of `Precision`; auto is bfloat16 (autocast) on a GPU, float32 on a CPU.

        Raises:
            UserError: the folder is no model, the model has no card or one that does not fit it, there is no such
                device or precision, or `batch_size` is below 1.
        """
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, not {batch_size}")
        if precision not in get_args(Precision):
            raise unknown_name("precision", precision, get_args(Precision))
        self.device = pick_device(device)
        if not isinstance(model, Model | ExportedModel):
            model = load_exported(model) if is_exported(model) else load(model)
        if isinstance(model, ExportedModel) and precision == "bfloat16":
            raise UserError(f"{model.path} computes in {model.metadata.precision}: leave out --precision")
        self.model = model.to(self.device).eval()
        self.batch_size = batch_size
        self.bfloat16 = precision == "bfloat16" or (precision == "auto" and self.device.type == "cuda")
        self.card = _valid_card(self.model)

    def predict(self, images: Iterable[ImageLike], *, top_k: int | None = None) -> Iterator[Prediction | Failure]:
        """Classifies images lazily and in order, with one batch in memory at a time.

        Args:
            images: paths, contents of files, PIL images, or uint8 arrays of shape (h w), (h w 1) or (h w 3), in any
                mixture.
            top_k: number of classes to return; None: 5, or all if there are fewer.

        Raises:
            UserError: the model has no trained head, `images` is a single image, or `top_k` is below 1 or above the
                number of classes; during iteration, an array has another type or shape.
            TypeError: during iteration, an item has another type.
        """
        if isinstance(images, str | Path | bytes | Image.Image):
            raise UserError("predict takes several images, not a single one: give a list of images")
        count = self._top_k(top_k)
        return self._predict(images, count)

    def __call__(self, image: ImageLike, *, top_k: int | None = None) -> Prediction:
        """Classifies one image.

        Raises:
            UnreadableImage: the image cannot be read.
            UserError, TypeError: as in `predict`.
        """
        count = self._top_k(top_k)
        name = _name(image, 0)
        _check_type(image, name, bands=self.card.preprocessing.bands)
        return self._prediction(name, *self._rank([self._read(image, name)], count)[0])

    @torch.inference_mode()
    def logits(self, images: PixelBatch) -> Float[Tensor, "b classes"]:
        """Logits of images as preprocessing read them, in float32 whatever the arithmetic."""
        with self._arithmetic():
            return self.model(self.card.preprocessing.normalise(images.to(self.device))).float()

    @torch.inference_mode()
    def extract_features(self, images: PixelBatch) -> Float[Tensor, "b d"]:
        """Features before the head (y of Eq. 4) of images as preprocessing read them."""
        with self._arithmetic():
            return self.model.features(self.card.preprocessing.normalise(images.to(self.device))).pooled.float()

    @torch.inference_mode()
    def patches(self, images: PixelBatch) -> Float[Tensor, "b gh gw d"]:
        """Final patch tokens in their grid, of a Vision Transformer, on the CPU."""
        assert isinstance(self.model, ViT)
        with self._arithmetic():
            tokens = self.model.features(self.card.preprocessing.normalise(images.to(self.device))).patches
        return rearrange(tokens.float().cpu(), "b (gh gw) d -> b gh gw d", gh=self.model.config.grid[0])

    @torch.inference_mode()
    def attention(self, images: PixelBatch, *, layers: int | None = None) -> Float[Tensor, "b gh gw"]:
        """Fraction of the rolled-out attention that each patch receives, of a Vision Transformer, on the CPU.

        Args:
            images: as preprocessing read them.
            layers: how many blocks are rolled out, from the first; None: all.

        Raises:
            UserError: the model has axial attention.
        """
        assert isinstance(self.model, ViT)
        with self._arithmetic():
            weights = attention_weights(self.model, self.card.preprocessing.normalise(images.to(self.device)))
        rolled = rollout([layer.float() for layer in weights[:layers]])
        return attention_over_image(rolled, grid=self.model.config.grid, queries=self.model.pool_tokens).cpu()

    def read(self, image: ImageLike, *, name: str) -> np.ndarray:
        """Reads one image as preprocessing does: what `logits` and its like take, without the batch axis.

        Args:
            image: as in `predict`.
            name: the image's name in errors.

        Raises:
            UnreadableImage: the image cannot be read.
        """
        return self._read(image, name)

    def _predict(self, images: Iterable[ImageLike], top_k: int) -> Iterator[Prediction | Failure]:
        numbered = enumerate(images)
        with ThreadPoolExecutor(NUM_READERS) as readers:
            while batch := list(islice(numbered, self.batch_size)):
                names = [_name(image, number) for number, image in batch]
                for name, (_, image) in zip(names, batch, strict=True):
                    _check_type(image, name, bands=self.card.preprocessing.bands)
                read = list(readers.map(self._read_or_fail, [image for _, image in batch], names))
                pixels = [outcome for outcome in read if isinstance(outcome, np.ndarray)]
                ranked = iter(self._rank(pixels, top_k) if pixels else [])
                for name, outcome in zip(names, read, strict=True):
                    yield outcome if isinstance(outcome, Failure) else self._prediction(name, *next(ranked))

    def _read(self, image: ImageLike, name: str) -> Pixels:
        preprocessing, file = self.card.preprocessing, Path(image) if isinstance(image, str) else image
        if isinstance(file, np.ndarray) and not preprocessing.bands:
            file = Image.fromarray(file[:, :, 0] if file.ndim == 3 and file.shape[2] == 1 else file)
        return preprocessing.pixels(preprocessing.read(file, name=name))

    def _read_or_fail(self, image: ImageLike, name: str) -> Pixels | Failure:
        try:
            return self._read(image, name)
        except UnreadableImage as error:
            return Failure(name=name, reason=str(error))

    def _rank(self, images: list[Pixels], top_k: int) -> list[tuple[list[int], list[float]]]:
        """The most probable classes of each image, and their probabilities."""
        logits = self.logits(torch.from_numpy(np.stack(images)))
        probabilities, classes = logits.softmax(dim=1).topk(top_k)
        return list(zip(classes.tolist(), probabilities.tolist(), strict=True))

    def _prediction(self, name: str, classes: list[int], probabilities: list[float]) -> Prediction:
        names = tuple(self.card.classes[index] for index in classes)
        return Prediction(name=name, classes=names, probabilities=tuple(probabilities))

    def _top_k(self, top_k: int | None) -> int:
        num_classes = len(self.card.classes)
        if not num_classes:
            raise UserError(
                "the model has no trained head, so it predicts no classes: use its features, or fine-tune it"
            )
        if top_k is not None and not 1 <= top_k <= num_classes:
            raise UserError(f"the model has {num_classes} classes: top-k must be from 1 to {num_classes}, not {top_k}")
        return min(5, num_classes) if top_k is None else top_k

    def _arithmetic(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16) if self.bfloat16 else nullcontext()


def _name(image: ImageLike, number: int) -> str:
    return str(image) if isinstance(image, str | Path) else f"images[{number}]"


def _check_type(image: object, name: str, *, bands: bool) -> None:
    """Checks types and shapes, before anything is decoded; those of bands are checked when they are read."""
    if isinstance(image, np.ndarray):
        is_picture = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3))
        if not bands and (image.dtype != np.uint8 or not is_picture):
            raise UserError(
                f"{name} is an array of {image.dtype} and shape {image.shape}: "
                "give uint8 of shape (height, width), (height, width, 1) or (height, width, 3)"
            )
    elif not isinstance(image, str | Path | bytes | Image.Image):
        raise TypeError(
            f"{name} is of type {type(image).__name__}: give a path, a file's content, a PIL image or a uint8 array"
        )


def _valid_card(model: Model | ExportedModel) -> ModelCard:
    if model.card is None:
        raise UserError(
            "the model has no card with preprocessing and class names: "
            "set model.card to a vitral.ModelCard, or load the model from its folder with vitral.load"
        )
    return ModelConfig(architecture=model.config, card=model.card).card
