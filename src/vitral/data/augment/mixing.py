"""Mixup and CutMix of neighbours: rows 2j and 2j + 1 of a batch are a pair, and each gets its part of the other.

Pairs lie within any even share of a batch, so that what is mixed with what does not depend on how many devices share
it. Images come in random order, hence so do neighbours.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from vitral.data.augment.config import AugmentConfig

__all__ = ["Examples", "mixed"]


@dataclass(frozen=True, kw_only=True)
class Examples:
    """What a step learns from."""

    images: Float[Tensor, "b c h w"]
    """In the model's range."""
    labels: Int64[Tensor, " b"]
    """Class of each image, negative where it could not be read."""
    partners: Int64[Tensor, " b"] | None = None
    """Class of what each image is mixed with; None where nothing is mixed."""
    shares: Float[Tensor, " b"] | None = None
    """How much of each image is its own."""
    keys: Int64[Tensor, " b"] | None = None
    """What an objective draws by; a function of seed, epoch and image."""

    def __len__(self) -> int:
        return len(self.images)

    def chunk(self, parts: int) -> list["Examples"]:
        """As many parts, of the same size."""
        names = [field.name for field in fields(self)]
        columns = [
            [None] * parts if column is None else column.chunk(parts)
            for column in (getattr(self, name) for name in names)
        ]
        return [Examples(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]


def mixed(examples: Examples, numbers: Float64[np.ndarray, "pairs 5"], config: AugmentConfig) -> Examples:
    """Mixes each image with its neighbour, by mixup or CutMix as the pair draws; a broken image is mixed with nothing.

    Args:
        examples: an even number.
        numbers: in [0, 1) for each pair: which of the two, the share, row and column of a cut.
        config: the distributions.
    """
    images, labels = examples.images, examples.labels
    height, width = images.shape[2:]
    shares, boxes, cuts = _plan(numbers, config, height, width)
    device = images.device
    own = torch.from_numpy(np.repeat(shares, 2)).to(device, images.dtype, non_blocking=True)
    swapped = torch.arange(len(labels), device=device) ^ 1
    partners = labels[swapped]
    readable = (labels >= 0) & (partners >= 0)
    own = torch.where(readable, own, 1.0)
    top, bottom, left, right = torch.from_numpy(np.repeat(boxes, 2, axis=0)).to(device, non_blocking=True).T[:, :, None]
    rows, columns = (torch.arange(count, device=device) for count in (height, width))
    inside = ((rows >= top) & (rows < bottom))[:, None, :, None] & ((columns >= left) & (columns < right))[
        :, None, None
    ]
    cut = torch.from_numpy(np.repeat(cuts, 2)).to(device, non_blocking=True)[:, None, None, None]
    weights = torch.where(cut, (~inside).to(images.dtype), own[:, None, None, None])
    weights = torch.where(readable[:, None, None, None], weights, 1.0)
    return replace(
        examples,
        images=torch.lerp(images[swapped], images, weights),
        partners=torch.where(readable, partners, labels),
        shares=own,
    )


def _plan(
    numbers: Float64[np.ndarray, "pairs 5"], config: AugmentConfig, height: int, width: int
) -> tuple[Float64[np.ndarray, " pairs"], Int64[np.ndarray, "pairs 4"], np.ndarray]:
    """Each pair's share, box (top, bottom, left, right), and whether it is cut."""
    from scipy.special import betaincinv  # here, as few runs mix

    which, share, down, across, _ = numbers.T
    cuts = which < 0.5 if config.mixup and config.cutmix else np.full(len(which), bool(config.cutmix))
    alphas = np.where(cuts, config.cutmix or 1.0, config.mixup or 1.0)
    shares = betaincinv(alphas, alphas, share)
    # two that are mixed by s are the same two mixed by 1 - s: the greater part stays with its own place
    shares = np.where(cuts, shares, np.maximum(shares, 1 - shares))
    half = np.sqrt(1 - shares)[:, None] * np.array([height, width]) / 2
    centre = np.stack([down * height, across * width], axis=1)
    low = np.clip(np.floor(centre - half), 0, [height, width]).astype(np.int64)
    high = np.clip(np.floor(centre + half), 0, [height, width]).astype(np.int64)
    kept = 1 - (high - low).prod(axis=1) / (height * width)
    boxes = np.stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1]], axis=1)
    return np.where(cuts, kept, shares), boxes, cuts
