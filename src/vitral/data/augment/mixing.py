"""Mixup and CutMix: rows 2j and 2j + 1 of a batch are mixed with each other.

A pair never crosses devices if each has an even number of rows, so the pairs do not depend on the number of devices.
The order of images is random, hence so are the pairs.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from vitral.data.augment.config import AugmentConfig
from vitral.data.images.patch_rows import Images

__all__ = ["Examples", "mix"]


@dataclass(frozen=True, kw_only=True)
class Examples:
    """The training examples of a step."""

    images: Images
    """In the model's range."""
    labels: Int64[Tensor, " b"] | Float[Tensor, "b k"]
    """Class of each image, negative if it is unreadable; or its labels or its number, NaN if it is unreadable."""
    partners: Int64[Tensor, " b"] | None = None
    """Class of the image that each is mixed with; None: nothing is mixed."""
    mix_weights: Float[Tensor, " b"] | None = None
    """Weight of each image's own class; its partner's is 1 minus that."""
    keys: Int64[Tensor, " b"] | None = None
    """Random key of each image, from which an objective derives its own random numbers; of seed, epoch and image."""

    def __len__(self) -> int:
        return len(self.images)

    def chunk(self, parts: int) -> list["Examples"]:
        """Splits the examples into parts of the same size."""
        names = [field.name for field in fields(self)]
        columns = [
            [None] * parts if column is None else column.chunk(parts)
            for column in (getattr(self, name) for name in names)
        ]
        return [Examples(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]


def mix(examples: Examples, uniforms: Float64[np.ndarray, "pairs 5"], config: AugmentConfig) -> Examples:
    """Mixes each image with its neighbour by mixup or CutMix; unreadable images are mixed with nothing.

    Args:
        examples: an even number.
        uniforms: in [0, 1) for each pair: mixup or CutMix, the mixing weight, row and column of the cut, one unused.
        config: the distributions.
    """
    images, labels = examples.images, examples.labels
    height, width = images.shape[2:]
    pair_weights, boxes, cuts = _sample_mix(uniforms, config, height, width)
    device = images.device
    mix_weights = torch.from_numpy(np.repeat(pair_weights, 2)).to(device, images.dtype, non_blocking=True)
    swapped = torch.arange(len(labels), device=device) ^ 1
    partners = labels[swapped]
    readable = (labels >= 0) & (partners >= 0)
    mix_weights = torch.where(readable, mix_weights, 1.0)
    top, bottom, left, right = torch.from_numpy(np.repeat(boxes, 2, axis=0)).to(device, non_blocking=True).T[:, :, None]
    rows, columns = (torch.arange(count, device=device) for count in (height, width))
    inside = ((rows >= top) & (rows < bottom))[:, None, :, None] & ((columns >= left) & (columns < right))[
        :, None, None
    ]
    cut = torch.from_numpy(np.repeat(cuts, 2)).to(device, non_blocking=True)[:, None, None, None]
    weights = torch.where(cut, (~inside).to(images.dtype), mix_weights[:, None, None, None])
    weights = torch.where(readable[:, None, None, None], weights, 1.0)
    return replace(
        examples,
        images=torch.lerp(images[swapped], images, weights),
        partners=torch.where(readable, partners, labels),
        mix_weights=mix_weights,
    )


def _sample_mix(
    uniforms: Float64[np.ndarray, "pairs 5"], config: AugmentConfig, height: int, width: int
) -> tuple[Float64[np.ndarray, " pairs"], Int64[np.ndarray, "pairs 4"], np.ndarray]:
    """For each pair its mixing weight, its box (top, bottom, left, right), and whether it uses CutMix."""
    from scipy.special import betaincinv  # here because few runs mix

    which, quantile, down, across, _ = uniforms.T
    cuts = which < 0.5 if config.mixup and config.cutmix else np.full(len(which), bool(config.cutmix))
    alphas = np.where(cuts, config.cutmix or 1.0, config.mixup or 1.0)
    weights = betaincinv(alphas, alphas, quantile)
    # weights w and 1 - w give the same two images: each row keeps its own image as the larger part
    weights = np.where(cuts, weights, np.maximum(weights, 1 - weights))
    half = np.sqrt(1 - weights)[:, None] * np.array([height, width]) / 2
    centre = np.stack([down * height, across * width], axis=1)
    low = np.clip(np.floor(centre - half), 0, [height, width]).astype(np.int64)
    high = np.clip(np.floor(centre + half), 0, [height, width]).astype(np.int64)
    uncut = 1 - (high - low).prod(axis=1) / (height * width)
    boxes = np.stack([low[:, 0], high[:, 0], low[:, 1], high[:, 1]], axis=1)
    return np.where(cuts, uncut, weights), boxes, cuts
