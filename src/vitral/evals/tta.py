"""Test-time augmentation: the average of a model's probabilities over several views of each image."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vitral.card import ModelCard
from vitral.data.images.patch_rows import flip_patches
from vitral.data.images.preprocess import PixelBatch, Preprocessing

__all__ = ["TTA", "average_views", "larger_preprocessing"]

TTA = Literal["none", "flip", "five-crop", "ten-crop"]
"""Views of each image. flip: the image and its mirror image. five-crop: the centre and the four corners. ten-crop: the
crops and their mirror images, as in AlexNet (Krizhevsky et al. 2012, section 4.1).
"""

CROPS = ("five-crop", "ten-crop")

CROP_RATIO = 0.875
"""Side of the crops as a fraction of the image's, for models that take the whole image: 224 of 256 pixels."""


def larger_preprocessing(preprocessing: Preprocessing, tta: str) -> Preprocessing:
    """How images are read for their views: for crops, as the resized image that the model's centre crop is taken from.

    Of an image that is not square, that is its central square, as in AlexNet; a model that squashes images gets crops
    of the squashed image.
    """
    if tta not in CROPS:
        return preprocessing
    preprocessing.check_one_size(f"--tta {tta}")
    if preprocessing.resize == "squash" or preprocessing.crop_ratio == 1:
        preprocessing = replace(preprocessing, crop_ratio=CROP_RATIO)
    return replace(preprocessing, image_size=preprocessing.resized_hw, crop_ratio=1.0)


def average_views(
    logits: Callable[[PixelBatch], Float[Tensor, "b k"]], images: PixelBatch, tta: str, card: ModelCard
) -> Float[Tensor, "b k"]:
    """Outputs whose probabilities are the averages over the views; of numbers, the averages.

    Args:
        logits: from images at the model's size to its outputs in float32.
        images: as `larger_preprocessing` reads them.
        tta: which views.
        card: of the model.
    """
    outputs = torch.stack([logits(view) for view in _views(images, tta, card.preprocessing)])
    if card.target == "regression":
        return outputs.mean(0)
    if card.target == "multi-label":
        # the mean of probabilities over the mean of their complements, in logarithms, which do not overflow
        return F.logsigmoid(outputs).logsumexp(0) - F.logsigmoid(-outputs).logsumexp(0)
    return outputs.log_softmax(-1).logsumexp(0) - math.log(len(outputs))


def _views(images: PixelBatch, tta: str, preprocessing: Preprocessing) -> Iterator[PixelBatch]:
    """The views at the model's size."""
    for crop in _crops(images, preprocessing.image_size) if tta in CROPS else (images,):
        yield crop
        if tta not in ("flip", "ten-crop"):
            continue
        if preprocessing.keeps_aspect:
            yield flip_patches(crop, torch.ones(len(crop), dtype=torch.bool), patch_hw=preprocessing.patch_hw)
        else:
            yield crop.flip(2)


def _crops(images: PixelBatch, size: tuple[int, int]) -> Iterator[PixelBatch]:
    """The centre and the four corners."""
    (height, width), (rest_h, rest_w) = size, (images.shape[1] - size[0], images.shape[2] - size[1])
    starts = [(round(rest_h / 2), round(rest_w / 2)), (0, 0), (0, rest_w), (rest_h, 0), (rest_h, rest_w)]
    for top, left in starts:
        yield images[:, top : top + height, left : left + width]
