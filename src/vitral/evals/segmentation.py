"""Semantic segmentation with a linear head on frozen patch tokens: mean IoU and pixel accuracy."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from vitral.data.images.masks import UNLABELLED
from vitral.errors import UserError

__all__ = ["Segmentation", "SegmentationHead", "fit_segmentation", "patch_class_fractions", "segmentation"]

Patches = Float[Tensor, "b gh gw d"]
Masks = Int64[Tensor, "b h w"]

STRENGTH = 1e-3
"""Strength of L2 regularisation, relative to the mean square of a feature."""


@dataclass(frozen=True, kw_only=True)
class SegmentationHead:
    """A linear map from patch tokens to class scores."""

    weight: Float64[Tensor, "d classes"]
    bias: Float64[Tensor, " classes"]

    def predict(self, patches: Patches, size: tuple[int, int]) -> Masks:
        """The class of every pixel: the largest of the scores, interpolated bilinearly between patch centres.

        Scores are upsampled one image at a time: 150 classes at 224 px take 60 MB an image.
        """
        scores = rearrange(patches.double() @ self.weight + self.bias, "b gh gw classes -> b classes gh gw")
        upsampled = (F.interpolate(image, size=size, mode="bilinear", align_corners=False) for image in scores.split(1))
        return torch.cat([image.argmax(1) for image in upsampled])


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """Metrics over the pixels that have a class."""

    num_images: int
    confusion: Int64[Tensor, "classes classes"]
    """Number of pixels by true class (row) and predicted class (column)."""

    @property
    def iou(self) -> Float64[Tensor, " classes"]:
        """Intersection over union of each class; NaN for a class that is neither present nor predicted."""
        hits = self.confusion.diagonal().double()
        return hits / (self.confusion.sum(0) + self.confusion.sum(1) - hits)

    @property
    def mean_iou(self) -> float:
        """Mean over the classes that are present or predicted."""
        return self.iou.nanmean().item()

    @property
    def accuracy(self) -> float:
        """Fraction of the pixels predicted correctly."""
        return (self.confusion.trace() / self.confusion.sum()).item()

    def metrics(self) -> Iterator[tuple[str, float]]:
        """The metrics by name."""
        yield from (("mean_iou", self.mean_iou), ("pixel_accuracy", self.accuracy))


@torch.no_grad()
def fit_segmentation(
    batches: Iterable[tuple[Patches, Masks]], *, num_classes: int, strength: float = STRENGTH
) -> SegmentationHead:
    """Ridge regression from patch tokens to the fraction of each class in the patch, in closed form.

    Memory does not grow with the number of images: only sums over all patches are stored. A patch is weighted by its
    fraction of labelled pixels. The bias is not regularised.

    Args:
        batches: patch tokens in their grid, and masks whose sides are multiples of the grid's.
        num_classes: number of classes.
        strength: of regularisation, relative to the mean square of a feature.

    Raises:
        UserError: no pixel has a class.
    """
    gram = cross = torch.zeros(())
    for patches, masks in batches:
        fractions = patch_class_fractions(masks, (patches.shape[1], patches.shape[2]), num_classes=num_classes)
        tokens = rearrange(F.pad(patches.double(), (0, 1), value=1.0), "b gh gw d -> (b gh gw) d")
        gram = gram + tokens.T @ (tokens * fractions.sum(1, keepdim=True))
        cross = cross + tokens.T @ fractions
    if not cross.any():
        raise UserError("no pixel of the masks has a class: check their values")
    width = len(gram) - 1
    penalty = torch.full((width + 1,), strength * gram.diagonal()[:width].mean().item(), dtype=torch.float64)
    penalty[width] = 0.0
    solution = torch.linalg.solve(gram + penalty.diag(), cross)
    return SegmentationHead(weight=solution[:width], bias=solution[width])


@torch.no_grad()
def segmentation(head: SegmentationHead, batches: Iterable[tuple[Patches, Masks]], *, num_classes: int) -> Segmentation:
    """Evaluates a head on other images.

    Raises:
        UserError: there are no images, or no pixel has a class.
    """
    confusion, count = torch.zeros(num_classes**2, dtype=torch.int64), 0
    for patches, masks in batches:
        predicted = head.predict(patches, (masks.shape[1], masks.shape[2]))
        labelled = masks != UNLABELLED
        confusion += torch.bincount(masks[labelled] * num_classes + predicted[labelled], minlength=num_classes**2)
        count += len(masks)
    if not confusion.any():
        raise UserError("no pixel of the masks has a class: check their values")
    return Segmentation(num_images=count, confusion=confusion.reshape(num_classes, num_classes))


def patch_class_fractions(
    masks: Masks, grid: tuple[int, int], *, num_classes: int
) -> Float64[Tensor, "patches classes"]:
    """Fraction of each class in the pixels of every patch; a row sums to less than 1 if some pixels have no class."""
    pixels = rearrange(masks, "b (gh ph) (gw pw) -> (b gh gw) (ph pw)", gh=grid[0], gw=grid[1])
    # unlabelled pixels are counted in one more column, which is cut off
    columns = pixels.where(pixels != UNLABELLED, num_classes)
    assert (columns <= num_classes).all()
    index = torch.arange(len(pixels))[:, None] * (num_classes + 1) + columns
    counts = index.flatten().bincount(minlength=len(pixels) * (num_classes + 1))
    return counts.reshape(len(pixels), num_classes + 1)[:, :num_classes].double() / pixels.shape[1]
