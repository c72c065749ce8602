"""scikit-learn estimators: a Vision Transformer as a classifier, and a model's features as a transformer.

Both take an array of images (n, h, w) or (n, h, w, c), a table of flattened images with `image_shape`, or a list of
paths, file contents, PIL images or arrays. They clone, pickle, and work in pipelines, grid searches and
cross-validation.
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float32, Float64
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, column_or_1d

from vitral.card import ModelCard
from vitral.commands.arguments.flags import parse_config
from vitral.commands.keywords import as_flags
from vitral.commands.train import config_from_recipe
from vitral.data.sources.items import ItemSource
from vitral.errors import UserError
from vitral.recipes.own_images import choose
from vitral.serve.predictor import Predictor
from vitral.train.budget import measure_budget
from vitral.train.config import RunConfig
from vitral.train.memory import check_memory
from vitral.train.plan import Plan
from vitral.train.resource_errors import translate_resource_errors
from vitral.train.session import Session
from vitral.train.steps import train_steps
from vitral.train.targets import fit_targets

__all__ = ["ViTClassifier", "ViTFeatures"]

Item = str | Path | bytes | Image.Image | np.ndarray
IMAGES = "images of shape (n, h, w) or (n, h, w, c), or a list of paths, file contents, PIL images or arrays"


class _TakesImages(BaseEstimator):
    """Turns what scikit-learn passes into images."""

    image_shape: tuple[int, ...] | None

    def _images(self, X: Any, *, fitting: bool) -> list[Item]:
        """One item for each image; when fitting, sets `n_features_in_` and the range of values.

        Raises:
            UserError: there are no images, or an array has another shape, negative or infinite values.
        """
        if _is_list_of_items(X):
            items = list(np.asarray(X, dtype=object).ravel() if hasattr(X, "columns") else X)
            if not items:
                raise UserError("found 0 sample(s): give at least one image")
            if fitting:
                self.range_ = None
            return items
        pixels = check_array(
            X, allow_nd=True, ensure_2d=False, dtype="numeric", estimator=self, input_name="X", ensure_min_samples=1
        )
        self._check_shape(pixels, fitting=fitting)
        shape = self.image_shape
        if pixels.ndim == 2:
            pixels = pixels.reshape(len(pixels), *(shape or ()))
        if fitting:
            self.range_ = _range_of(pixels)
        return list(_as_bytes(pixels, self.range_))

    def _check_shape(self, pixels: np.ndarray, *, fitting: bool) -> None:
        if pixels.ndim == 1:
            raise ValueError(f"Reshape your data: expected 2D array or {IMAGES}, got 1D array instead")
        if pixels.ndim == 2 and self.image_shape is None:
            raise UserError(
                f"X has shape {pixels.shape}, a row for each image: give image_shape, such as image_shape=(28, 28)"
            )
        if pixels.ndim > 4 or (pixels.ndim == 4 and pixels.shape[3] not in (1, 3)):
            raise UserError(f"X has shape {pixels.shape}: give {IMAGES}, with 1 or 3 channels last")
        if pixels.ndim != 2:
            return
        if fitting:
            self.n_features_in_ = pixels.shape[1]
        elif pixels.shape[1] != getattr(self, "n_features_in_", pixels.shape[1]):
            raise ValueError(
                f"X has {pixels.shape[1]} features, but {type(self).__name__} is expecting {self.n_features_in_} "
                "features as input"
            )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.image_shape is not None
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True  # paths
        return tags


def _is_list_of_items(X: Any) -> bool:
    """Whether it is a list of images, and no array of numbers."""
    if isinstance(X, np.ndarray) or hasattr(X, "dtypes") or hasattr(X, "__array__"):
        return np.asarray(X).dtype.kind in "OUS" and not _is_numeric(X)
    if not isinstance(X, Sequence) or isinstance(X, str | bytes):
        return False
    return not len(X) or isinstance(X[0], Item) or not np.ndim(X[0])


def _is_numeric(X: Any) -> bool:
    """Whether an array of objects has numbers."""
    first = np.asarray(X, dtype=object).ravel()[:1]
    return bool(len(first)) and not isinstance(first[0], Item)


def _range_of(pixels: np.ndarray) -> tuple[float, float] | None:
    """The values that become black and white; None: they are bytes already."""
    return None if pixels.dtype == np.uint8 else (float(pixels.min()), float(pixels.max()))


def _as_bytes(pixels: np.ndarray, limits: tuple[float, float] | None) -> np.ndarray:
    """Pixels as uint8; numbers beyond the range of the training images are black or white."""
    if pixels.ndim == 4 and pixels.shape[3] == 1:
        pixels = pixels[..., 0]
    if pixels.dtype == np.uint8 and limits is None:
        return pixels
    low, high = limits or (0.0, 255.0)
    unit = (pixels.astype(np.float64) - low) / ((high - low) or 1.0)
    return np.round(255 * unit.clip(0.0, 1.0)).astype(np.uint8)


class ViTClassifier(ClassifierMixin, _TakesImages):
    """A Vision Transformer trained as `vitral train folder` does, or fine-tuned from published weights.

    It trains on all images that `fit` receives and holds none out.
    """

    def __init__(
        self,
        *,
        recipe: Any = "folder",  # scikit-learn wants parameters unchecked until `fit`
        weights: Any = None,
        epochs: Any = None,
        minutes: Any = None,
        image_shape: Any = None,
        settings: Any = None,
        random_state: Any = None,
        device: Any = "auto",
    ) -> None:
        """
        Args:
            recipe: a name that `vitral recipes` lists, whose images are replaced.
            weights: a trained model, as `vitral.load` takes it, to fine-tune instead of training from scratch.
            epochs: passes over the images; None: the recipe's.
            minutes: the length as `vitral train --minutes`; not reproducible, as it is measured.
            image_shape: (h, w) or (h, w, c) of the flattened images in the rows of a table.
            settings: other keys of `vitral train`, such as {"optim_lr": 1e-3, "train_batch_size": 32}.
            random_state: seed of weights, order and augmentation, or NumPy's generator; None is random.
            device: such as `cpu`, `cuda:1`, `mps` or `xpu`; auto is a GPU if there is one.
        """
        self.recipe = recipe
        self.weights = weights
        self.epochs = epochs
        self.minutes = minutes
        self.image_shape = image_shape
        self.settings = settings
        self.random_state = random_state
        self.device = device

    def fit(self, X: Any, y: Any) -> "ViTClassifier":
        """Trains on images and their classes.

        Raises:
            UserError: a setting or an image is wrong, there is only one class, or the loss is not finite.
        """
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        images, y = self._images(X, fitting=True), column_or_1d(y, warn=True)
        if len(images) != len(y):
            raise ValueError(f"Found input variables with inconsistent numbers of samples: {[len(images), len(y)]}")
        # None keeps the labels' own type, which the annotation leaves out
        check_classification_targets(check_array(y, ensure_2d=False, dtype=None, input_name="y"))  # pyright: ignore[reportArgumentType]
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise UserError(f"y has only one class, {self.classes_[0]!r}: a classifier needs at least two")
        source = ItemSource(
            items=images, labels=labels.astype(np.int64), classes=tuple(str(name) for name in self.classes_)
        )
        if self.minutes is not None and not self.minutes > 0:
            raise UserError(f"minutes must be above 0, not {self.minutes}")
        self.model_ = _trained(self._config(source), source, self.minutes)
        return self

    def predict_proba(self, X: Any) -> Float64[np.ndarray, "n classes"]:
        """The probability of each class, in the order of `classes_`.

        Raises:
            UserError: an image cannot be read.
        """
        check_is_fitted(self)
        images = self._images(X, fitting=False)
        predictor = Predictor(self.model_, device=self.device)
        logits = [predictor.logits(batch).cpu().double() for batch in _batches(predictor, images)]
        return torch.cat(logits).softmax(1).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each image. Errors as in `predict_proba`."""
        best = self.predict_proba(X).argmax(1)
        return self.classes_[best]

    def _config(self, source: ItemSource) -> RunConfig:
        recipe = self.recipe if self.weights is None else "finetune"
        weights = [] if self.weights is None else ["--model.weights", str(self.weights)]
        default = choose(config_from_recipe([recipe, *weights]), {"train": source})
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        keys = {"data_workers": 0, "train_device": self.device, "seed": seed}
        if self.epochs is not None:
            keys["train_epochs"] = self.epochs
        flags = as_flags({**keys, **(self.settings or {})}, default)
        return parse_config(RunConfig, default=default, arguments=flags, program=f"vitral train {recipe}")

    def __getstate__(self) -> dict[str, Any]:
        state = cast("dict[str, Any]", super().__getstate__())
        if "model_" in state:  # so that it loads where there is no GPU
            state = {**state, "model_": deepcopy(state["model_"]).cpu()}
        return state


class ViTFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _TakesImages):
    """Features of a trained model, a row for each image, for any classifier after it."""

    def __init__(
        self,
        model: Any = "ViT-S/16@augreg-in21k",
        *,
        image_shape: Any = None,
        batch_size: Any = 64,
        device: Any = "auto",
    ) -> None:
        """
        Args:
            model: a model with its card, or the path or name of one, as `vitral.load` takes it.
            image_shape: (h, w) or (h, w, c) of the flattened images in the rows of a table.
            batch_size: images that are computed together.
            device: such as `cpu`, `cuda:1`, `mps` or `xpu`; auto is a GPU if there is one.
        """
        self.model = model
        self.image_shape = image_shape
        self.batch_size = batch_size
        self.device = device

    def fit(self, X: Any, y: Any = None) -> "ViTFeatures":
        """Loads the model, and takes from an array of numbers which values are black and white.

        Raises:
            UserError: the model cannot be loaded, or the images are wrong.
        """
        images = self._images(X, fitting=True)
        self.predictor_ = Predictor(self.model, device=self.device, batch_size=self.batch_size)
        first = next(iter(_batches(self.predictor_, images[:1])))
        self._n_features_out = self.predictor_.extract_features(first).shape[1]
        return self

    def transform(self, X: Any) -> Float32[np.ndarray, "n d"]:
        """The features of each image. Raises UserError if an image cannot be read."""
        check_is_fitted(self)
        images = self._images(X, fitting=False)
        rows = [self.predictor_.extract_features(batch).cpu() for batch in _batches(self.predictor_, images)]
        return torch.cat(rows).numpy()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _batches(predictor: Predictor, images: list[Item]) -> Iterable[torch.Tensor]:
    """Images as preprocessing reads them, in batches."""
    for start in range(0, len(images), predictor.batch_size):
        part = enumerate(images[start : start + predictor.batch_size], start)
        read = [predictor.read(image, name=_name(image, number)) for number, image in part]
        yield torch.from_numpy(np.stack(read))


def _name(image: Item, number: int) -> str:
    return str(image) if isinstance(image, str | Path) else f"X[{number}]"


def _trained(config: RunConfig, source: ItemSource, minutes: float | None) -> Any:
    """The model after all steps, with its card."""
    if minutes is not None:
        budget = measure_budget(config, {"train": source, "test": source}, minutes=minutes)
        config = replace(config, train=replace(config.train, steps=budget.steps(minutes)))
    config, _ = fit_targets(config.resolved(num_classes=len(source.classes)), source)
    check_memory(config)
    with translate_resource_errors(config.train):
        session = Session(config, classes=source.classes)
        session.initialise()
        for step in train_steps(session, source, Plan.of(config, samples=len(source))):
            if step.is_last and not step.metrics["loss"].isfinite():
                raise UserError(f"the loss became {step.metrics['loss'].item()}: lower the setting optim_lr")
        model = session.export_model().eval()
    model.card = ModelCard(preprocessing=session.preprocessing, classes=source.classes)
    return model
