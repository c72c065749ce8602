"""Mixup and CutMix: neighbours 2j and 2j + 1 of a batch become two mixtures of both.

A pair lies within any even share of the batch, so results depend neither on the number of processes nor on
accumulation. An image that could not be read, and the one beside it, stay as they are.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Float32, Float64, Int64
from torch import Tensor

from vitral.data.augment.names import MIX
from vitral.data.examples import UNREADABLE, Examples
from vitral.data.order import AUGMENTATION, uniform

__all__ = ["MixConfig", "Mixing", "draw_mixing", "mix"]


@dataclass(frozen=True, kw_only=True)
class MixConfig:
    """How images are mixed in pairs. The defaults mix none.

    Raises:
        ValueError: a value is out of range.
    """

    mixup: float = 0.0
    """Alpha of mixup: both images are blended, with a weight from Beta(alpha, alpha); 0 turns it off."""
    cutmix: float = 0.0
    """Alpha of CutMix: a box of one image is laid on the other, its share from Beta(alpha, alpha); 0 turns it off."""
    probability: float = 1.0
    """How often images are mixed at all."""
    switch: float = 0.5
    """Where both are on: how often it is CutMix."""
    per: Literal["pair", "batch"] = "pair"
    """Whether each pair draws for itself, or one draw holds for all images of a step, as in big_vision."""

    def __post_init__(self) -> None:
        if not (0 <= self.mixup < np.inf and 0 <= self.cutmix < np.inf):
            raise ValueError(f"mixup and cutmix must be at least 0, not {self.mixup} and {self.cutmix}")
        if not (0 <= self.probability <= 1 and 0 <= self.switch <= 1):
            raise ValueError(f"probability and switch must be from 0 to 1, not {self.probability} and {self.switch}")

    @property
    def mixes(self) -> bool:
        """Whether any image is mixed."""
        return bool(self.mixup or self.cutmix) and self.probability > 0


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """The draws of one batch, by pair."""

    shares: Float32[Tensor, " pairs"]
    """Weight of an image in its own mixture before a box is cut at the edges; 1 where nothing is mixed."""
    cut: Bool[Tensor, " pairs"]
    """Which pairs exchange a box; the others are blended."""
    centres: Float32[Tensor, "pairs 2"]
    """Where the box has its middle, as fractions of height and width."""

    def moved(self, device: torch.device) -> "Mixing":
        """The same on another device."""
        shares, cut, centres = (each.to(device, non_blocking=True) for each in (self.shares, self.cut, self.centres))
        return Mixing(shares=shares, cut=cut, centres=centres)


def draw_mixing(
    config: MixConfig, *, seed: int, epoch: Int64[np.ndarray, " b"], index: Int64[np.ndarray, " b"], step: int
) -> Mixing:
    """Draws how the pairs of a batch are mixed, each a function of its first sample, or all of the step."""
    assert len(index) % 2 == 0, "a batch of mixed images is even"
    pairs = len(index) // 2
    words = (step,) if config.per == "batch" else (epoch[::2], index[::2])

    def drawn(name: int) -> Float64[np.ndarray, " pairs"]:
        return np.broadcast_to(uniform(AUGMENTATION, seed, *words, MIX + name), (pairs,))

    cut = drawn(0) < config.switch if config.mixup and config.cutmix else np.full(pairs, bool(config.cutmix))
    blended = _beta(drawn(1), config.mixup)
    # the pair's two mixtures are the same either way round; so each image's own label is the heavier one
    shares = np.where(cut, _beta(drawn(1), config.cutmix), np.maximum(blended, 1 - blended))
    shares = np.where(drawn(2) < config.probability, shares, 1.0)
    return Mixing(
        shares=torch.from_numpy(shares.astype(np.float32)),
        cut=torch.from_numpy(cut.copy()),
        centres=torch.from_numpy(np.stack([drawn(3), drawn(4)], axis=1).astype(np.float32)),
    )


def _beta(even: Float64[np.ndarray, " n"], alpha: float) -> Float64[np.ndarray, " n"]:
    """Numbers of Beta(alpha, alpha) from evenly distributed ones: the inverse of its distribution function."""
    if alpha in (0.0, 1.0):
        return even
    # scipy's special functions take a tenth of a second to import
    from scipy.special import betaincinv

    return betaincinv(alpha, alpha, even)


def mix(examples: Examples, mixing: Mixing) -> Examples:
    """Mixes neighbours. A box is cut at the image's edges, and its exact area is its label's weight (CutMix, eq. 2)."""
    images, h, w = examples.images, *examples.images.shape[-2:]
    weights = _weights(mixing, (h, w))
    readable = rearrange(examples.counted, "(p two) -> p two", two=2).all(1)
    weights = weights.where(readable[:, None, None], 1.0)
    shares = repeat(weights.mean((1, 2)), "p -> (p two)", two=2)
    weights = repeat(weights, "p h w -> (p two) 1 h w", two=2).to(images.dtype)
    neighbours = rearrange(rearrange(images, "(p two) c h w -> p two c h w", two=2).flip(1), "p two ... -> (p two) ...")
    partners = rearrange(rearrange(examples.labels, "(p two) -> p two", two=2).flip(1), "p two -> (p two)")
    partners = partners.where(examples.counted & (partners != UNREADABLE), examples.labels)
    return Examples(
        images=weights * images + (1 - weights) * neighbours, labels=examples.labels, partners=partners, shares=shares
    )


def _weights(mixing: Mixing, size: tuple[int, int]) -> Float[Tensor, "pairs h w"]:
    """Weight of an image in its own mixture, pixel by pixel."""
    inside = torch.ones(len(mixing.shares), *size, dtype=torch.bool, device=mixing.shares.device)
    side = (1 - mixing.shares).clamp(min=0).sqrt()
    for axis, length in enumerate(size):
        cut, centre = (side * length).floor(), (mixing.centres[:, axis] * length).floor()
        low, high = (centre - (cut / 2).floor()), (centre + (cut / 2).floor())
        place = torch.arange(length, device=side.device)
        within = (place >= low[:, None]) & (place < high[:, None])
        inside &= within[:, :, None] if axis == 0 else within[:, None, :]
    return torch.where(mixing.cut[:, None, None], (~inside).float(), mixing.shares[:, None, None])
