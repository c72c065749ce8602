"""Image classification with a trained model: from image files to class names."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
from vitral.data.isolation.pool import DecoderPool
from vitral.device import check_bfloat16, pick_device, prefers_bfloat16
from vitral.errors import UserError, unknown_name
from vitral.evals.tta import TTA, average_views, larger_preprocessing
from vitral.export.exported import ExportedModel, is_exported, load_exported
from vitral.inspection.attention import attention_over_image, attention_weights, rollout
from vitral.models import Model
from vitral.serve.decoding import isolated_decoders
from vitral.vit import ViT
from vitral.weights.folder import ModelConfig
from vitral.weights.load import load

__all__ = ["NOT_FINITE", "Failure", "Precision", "Prediction", "Predictor", "probabilities", "rank"]

Precision = Literal["auto", "float32", "bfloat16"]
"""Arithmetic of a model; auto is bfloat16 on a GPU, and float32 on a CPU and for numbers."""

ImageLike = str | Path | bytes | Image.Image | np.ndarray
"""The path or the content of a file, a PIL image, or a uint8 array of shape (h w), (h w 1) or (h w 3).

A model of images of any number of channels takes arrays of numbers, with channels first or last.
"""

DEFAULT_TOP = 5
"""Classes of an answer, if there are as many."""

NOT_FINITE = "the model's outputs are not finite, so its weights are damaged, or the image's values too large for it"

NUM_READERS = 4
"""Threads that read files; decoding releases Python's global lock most of the time."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model says of one image: its most probable classes, all labels that it has, or a number."""

    name: str
    """The image's path, or its position in the input such as `images[3]`."""
    classes: tuple[str, ...]
    """Most probable class or label first; none for a number."""
    probabilities: tuple[float, ...]
    """Probabilities of these classes or labels; those of labels do not sum to 1."""
    value: float | None = None
    """The number, if the model predicts one."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An image that could not be read, or for which the model's outputs are not finite."""

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
        isolate: bool = False,
        tta: str = "none",
    ) -> None:
        """
        Args:
            model: a model with its card, or the path or name of one, as in `vitral.load`, or of an exported file.
            device: such as `cpu`, `cuda:1`, `mps` or `xpu`; auto is a GPU if there is one.
            batch_size: images that are computed together, and held in memory at most.
            precision: of the arithmetic, one of `Precision`; auto is bfloat16 (autocast) on a GPU, float32 on a CPU.
            isolate: whether files are decoded in confined processes, see `DecoderPool`.
            tta: test-time augmentation, see `TTA`: the views whose probabilities are averaged.

        Raises:
            UserError: the folder is no model, the model has no card or one that does not fit it, there is no such
                device, precision or augmentation, `batch_size` is below 1, or `isolate` is set and the system is not
                Linux.
        """
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, not {batch_size}")
        if precision not in get_args(Precision):
            raise unknown_name("precision", precision, get_args(Precision))
        if tta not in get_args(TTA):
            raise unknown_name("test-time augmentation", tta, get_args(TTA))
        self.device = pick_device(device)
        if not isinstance(model, Model | ExportedModel):
            model = load_exported(model) if is_exported(model) else load(model)
        if isinstance(model, ExportedModel) and precision == "bfloat16":
            raise UserError(f"{model.path} computes in {model.metadata.precision}: leave out --precision")
        self.model = model.to(self.device).eval()
        self.batch_size = batch_size
        self.card = _valid_card(self.model)
        self.tta = tta
        self.preprocessing = larger_preprocessing(self.card.preprocessing, tta)
        """How `logits` takes images: as the model does, or for crops larger."""
        self.decoders: DecoderPool | None = None
        """The confined processes; None: this process decodes."""
        if isolate:
            self.decoders = isolated_decoders(self.preprocessing, processes=NUM_READERS)
        # a number such as a year has more digits than bfloat16
        chosen = precision == "auto" and prefers_bfloat16(self.device) and self.card.target != "regression"
        self.bfloat16 = precision == "bfloat16" or chosen
        if self.bfloat16:
            check_bfloat16(self.device)

    def predict(self, images: Iterable[ImageLike], *, top_k: int | None = None) -> Iterator[Prediction | Failure]:
        """Classifies images lazily and in order, with one batch in memory at a time, or two of a sequence.

        Args:
            images: paths, contents of files, PIL images, or uint8 arrays of shape (h w), (h w 1) or (h w 3), in any
                mixture; or one array of shape (n h w c).
            top_k: number of classes to return; None: 5, or all if there are fewer. Where images have several labels,
                None returns those from their thresholds on, which may be none.

        Raises:
            UserError: the model has no trained head, `images` is a single image, `top_k` is below 1 or above the number
                of classes, or it is given for a number; during iteration, an array has another type or shape.
            TypeError: during iteration, an item has another type.
        """
        if isinstance(images, str | Path | bytes | Image.Image):
            raise UserError("predict takes several images, not a single one: give a list of images")
        if isinstance(images, np.ndarray) and images.ndim < 4 and images.dtype != object:
            raise UserError(
                f"predict takes several images, and an array of shape {images.shape} may be one: give a list of "
                "arrays, or one array of shape (images, height, width, channels)"
            )
        self._check_top_k(top_k)
        return self._predict(images, top_k)

    def __call__(self, image: ImageLike, *, top_k: int | None = None) -> Prediction:
        """Classifies one image.

        Raises:
            UnreadableImage: the image cannot be read.
            UserError: the outputs are not finite, or as in `predict`.
            TypeError: as in `predict`.
        """
        self._check_top_k(top_k)
        name = _name(image, 0)
        _check_type(image, name, bands=self.card.preprocessing.bands)
        answer = self._answers([name], [self._read(image, name)], top_k)[0]
        if isinstance(answer, Failure):
            raise UserError(answer.reason)
        return answer

    @torch.inference_mode()
    def logits(self, images: PixelBatch) -> Float[Tensor, "b classes"]:
        """Logits of images as `preprocessing` reads them, in float32 whatever the arithmetic."""
        images = images.to(self.device)
        return self._logits(images) if self.tta == "none" else average_views(self._logits, images, self.tta, self.card)

    @torch.inference_mode()
    def extract_features(self, images: PixelBatch) -> Float[Tensor, "b d"]:
        """Features before the head (y of Eq. 4) of images as preprocessing read them."""
        with self._arithmetic():
            return self.model.features(self.card.preprocessing.normalise(images.to(self.device))).pooled.float()

    @torch.inference_mode()
    def extract_blocks(self, images: PixelBatch, *, count: int) -> Float[Tensor, "b d"]:
        """Features of each of the last blocks of a Vision Transformer, side by side: of each its class token, if there
        is one, and the mean of its patches, after the final norm.

        Args:
            images: as preprocessing read them.
            count: number of blocks, or more if the model has fewer.
        """
        assert isinstance(self.model, ViT)
        has_class, norm = self.model.config.num_class_tokens > 0, self.model.fc_norm
        with self._arithmetic():
            pixels = self.card.preprocessing.normalise(images.to(self.device))
            count = min(count, self.model.config.depth)
            outputs = self.model.get_intermediate_layers(pixels, count, return_class_token=has_class)
            pairs = outputs if has_class else [(patches, None) for patches in outputs]
            tokens = [token for patches, cls in pairs for token in (cls, patches.mean(1)) if token is not None]
            return torch.cat([norm(token) for token in tokens], 1).float()

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

    def _logits(self, images: PixelBatch) -> Float[Tensor, "b classes"]:
        """Logits of images at the model's size, on its device."""
        with self._arithmetic():
            return self.model(self.card.preprocessing.normalise(images)).float()

    def _predict(self, images: Iterable[ImageLike], top_k: int | None) -> Iterator[Prediction | Failure]:
        for names, read in self._read_batches(images):
            known = [name for name, outcome in zip(names, read, strict=True) if isinstance(outcome, np.ndarray)]
            pixels = [outcome for outcome in read if isinstance(outcome, np.ndarray)]
            answers = iter(self._answers(known, pixels, top_k))
            for outcome in read:
                yield outcome if isinstance(outcome, Failure) else next(answers)

    def _read_batches(self, images: Iterable[ImageLike]) -> Iterator[tuple[list[str], list[Pixels | Failure]]]:
        """Names and pixels, batch by batch. While one batch is computed, the next of a sequence is read."""
        numbered = enumerate(images)
        # the next image of a camera may come late, and must not delay the answer to this one
        num_started = 2 if isinstance(images, Sequence) else 1
        started: deque[tuple[list[tuple[int, ImageLike]], list[Future[Pixels | Failure]]]] = deque()
        with ThreadPoolExecutor(NUM_READERS) as readers:
            try:
                while True:
                    while len(started) < num_started and (batch := list(islice(numbered, self.batch_size))):
                        reading = [
                            readers.submit(self._read_or_fail, image, _name(image, number)) for number, image in batch
                        ]
                        started.append((batch, reading))
                    if not started:
                        return
                    batch, reading = started.popleft()
                    names = [_name(image, number) for number, image in batch]
                    for name, (_, image) in zip(names, batch, strict=True):
                        _check_type(image, name, bands=self.card.preprocessing.bands)
                    yield names, [outcome.result() for outcome in reading]
            finally:
                readers.shutdown(cancel_futures=True)

    def _read(self, image: ImageLike, name: str) -> Pixels:
        preprocessing, file = self.preprocessing, Path(image) if isinstance(image, str) else image
        if self.decoders is not None and isinstance(file, Path | bytes):
            return self.decoders.decode(file, name=name).pixels
        if isinstance(file, np.ndarray) and not preprocessing.bands:
            file = Image.fromarray(file[:, :, 0] if file.ndim == 3 and file.shape[2] == 1 else file)
        return preprocessing.pixels(preprocessing.read(file, name=name))

    def _read_or_fail(self, image: ImageLike, name: str) -> Pixels | Failure:
        try:
            return self._read(image, name)
        except UnreadableImage as error:
            return Failure(name=name, reason=str(error))

    def _answers(self, names: list[str], images: list[Pixels], top_k: int | None) -> list[Prediction | Failure]:
        """What the model says of images that were read; a failure where its outputs are not finite."""
        if not images:
            return []
        outputs = probabilities(self.logits(torch.from_numpy(np.stack(images))), self.card).cpu()
        return [self._answer(name, row, top_k) for name, row in zip(names, outputs, strict=True)]

    def _answer(self, name: str, outputs: Float[Tensor, " classes"], top_k: int | None) -> Prediction | Failure:
        if not outputs.isfinite().all():
            return Failure(name=name, reason=f"{name}: {NOT_FINITE}")
        if self.card.target == "regression":
            return Prediction(name=name, classes=(), probabilities=(), value=outputs[0].item())
        ranked = rank(outputs, self.card, top_k)
        return Prediction(
            name=name,
            classes=tuple(self.card.classes[number] for number, _ in ranked),
            probabilities=tuple(probability for _, probability in ranked),
        )

    def _check_top_k(self, top_k: int | None) -> None:
        num_classes = len(self.card.classes)
        if not num_classes:
            raise UserError(
                "the model has no trained head, so it predicts no classes: use its features, or fine-tune it"
            )
        if top_k is None:
            return
        if self.card.target == "regression":
            raise UserError(f"the model predicts a number, {self.card.classes[0]}, and no classes: leave out top-k")
        if not 1 <= top_k <= num_classes:
            raise UserError(f"the model has {num_classes} classes: top-k must be from 1 to {num_classes}, not {top_k}")

    def _arithmetic(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16) if self.bfloat16 else nullcontext()


def probabilities(outputs: Float[Tensor, "b classes"], card: ModelCard) -> Float[Tensor, "b classes"]:
    """Probability of each class, or of each label by itself, from logits; a number stays as it is."""
    if card.target == "regression":
        return outputs
    return outputs.sigmoid() if card.target == "multi-label" else outputs.softmax(dim=-1)


def rank(row: Float[Tensor, " classes"], card: ModelCard, top_k: int | None) -> list[tuple[int, float]]:
    """Index and probability of the classes or labels to answer with, the most probable first.

    Args:
        row: probabilities of one image.
        card: of the model.
        top_k: how many; None: 5 classes at most, or the labels from their thresholds on.
    """
    by_threshold = top_k is None and card.target == "multi-label"
    values, indices = row.topk(len(row) if by_threshold else min(top_k or DEFAULT_TOP, len(row)))
    ranked = list(zip(indices.tolist(), values.tolist(), strict=True))
    if not by_threshold:
        return ranked
    return [(index, value) for index, value in ranked if value >= card.label_thresholds[index]]


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
