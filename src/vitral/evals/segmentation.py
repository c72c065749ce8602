"""What patch tokens know of places: a linear head tells the class of every pixel from frozen features."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from vitral.data.images.masks import UNLABELLED
from vitral.errors import UserError

__all__ = ["Segmentation", "SegmentationHead", "fit_segmentation", "segmentation"]

Patches = Float[Tensor, "b gh gw d"]
Masks = Int64[Tensor, "b h w"]

STRENGTH = 1e-3
"""Of L2 regularisation, relative to the mean square of a feature."""


@dataclass(frozen=True, kw_only=True)
class SegmentationHead:
    """A linear map from patch tokens to the scores of classes."""

    weight: Float64[Tensor, "d classes"]
    bias: Float64[Tensor, " classes"]

    def __call__(self, patches: Patches, size: tuple[int, int]) -> Float64[Tensor, "b classes h w"]:
        """Scores of every pixel, between patches' centres bilinear."""
        scores = rearrange(patches.double() @ self.weight + self.bias, "b gh gw classes -> b classes gh gw")
        return F.interpolate(scores, size=size, mode="bilinear", align_corners=False)


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """How well pixels were told; those without a class do not count."""

    num_images: int
    confusion: Int64[Tensor, "classes classes"]
    """Number of pixels by true class (row) and told class (column)."""

    @property
    def iou(self) -> Float64[Tensor, " classes"]:
        """Intersection over union of each class; NaN for one that no pixel has or was told to have."""
        hits = self.confusion.diagonal().double()
        return hits / (self.confusion.sum(0) + self.confusion.sum(1) - hits)

    @property
    def mean_iou(self) -> float:
        """Over the classes that occur."""
        return self.iou.nanmean().item()

    @property
    def accuracy(self) -> float:
        """Share of the pixels told right."""
        return (self.confusion.trace() / self.confusion.sum()).item()

    def metrics(self) -> Iterator[tuple[str, float]]:
        """The figures by name."""
        yield from (("mean_iou", self.mean_iou), ("pixel_accuracy", self.accuracy))


@torch.no_grad()
def fit_segmentation(
    batches: Iterable[tuple[Patches, Masks]], *, num_classes: int, strength: float = STRENGTH
) -> SegmentationHead:
    """Ridge regression from patch tokens onto the share of each class in the patch, in closed form.

    Only sums over all patches are kept, so any number of images fits; patches count by their share of pixels that have
    a class, and the bias is not regularised.

    Args:
        batches: patch tokens in their grid, and masks whose sides are multiples of the grid's.
        num_classes: classes in all.
        strength: of regularisation, relative to the mean square of a feature.

    Raises:
        UserError: no pixel has a class.
    """
    gram = cross = torch.zeros(())
    for patches, masks in batches:
        shares = _shares(masks, patches.shape[1:3], num_classes)
        tokens = rearrange(F.pad(patches.double(), (0, 1), value=1.0), "b gh gw d -> (b gh gw) d")
        gram = gram + tokens.T @ (tokens * shares.sum(1, keepdim=True))
        cross = cross + tokens.T @ shares
    if not cross.any():
        raise UserError("no pixel of the masks has a class: check their values")
    width = len(gram) - 1
    penalty = torch.full((width + 1,), strength * gram.diagonal()[:width].mean().item(), dtype=torch.float64)
    penalty[width] = 0.0
    solved = torch.linalg.solve(gram + penalty.diag(), cross)
    return SegmentationHead(weight=solved[:width], bias=solved[width])


@torch.no_grad()
def segmentation(head: SegmentationHead, batches: Iterable[tuple[Patches, Masks]], *, num_classes: int) -> Segmentation:
    """Tells every pixel of other images, and counts.

    Raises:
        UserError: there are no images, or no pixel has a class.
    """
    confusion, count = torch.zeros(num_classes**2, dtype=torch.int64), 0
    for patches, masks in batches:
        told = head(patches, (masks.shape[1], masks.shape[2])).argmax(1)
        labelled = masks != UNLABELLED
        confusion += torch.bincount(masks[labelled] * num_classes + told[labelled], minlength=num_classes**2)
        count += len(masks)
    if not confusion.any():
        raise UserError("no pixel of the masks has a class: check their values")
    return Segmentation(num_images=count, confusion=confusion.reshape(num_classes, num_classes))


def _shares(masks: Masks, grid: torch.Size, num_classes: int) -> Float64[Tensor, "patches classes"]:
    """Share of each class in the pixels of every patch; together less than 1 where some have no class."""
    one_hot = F.one_hot(masks.where(masks != UNLABELLED, num_classes), num_classes + 1)[..., :num_classes].double()
    cut = rearrange(one_hot, "b (gh ph) (gw pw) classes -> (b gh gw) (ph pw) classes", gh=grid[0], gw=grid[1])
    return cut.mean(1)
