"""The randomness of a batch, drawn where it is read by arithmetic on (seed, epoch, sample)."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

from vitral.data.augment.config import AugmentConfig
from vitral.data.augment.mix import Mixing, draw_mixing
from vitral.data.augment.names import FLIP, WARP
from vitral.data.order import AUGMENTATION, uniform

__all__ = ["Draws", "draw"]


@dataclass(frozen=True, kw_only=True)
class Draws:
    """The randomness of one batch's augmentation."""

    flips: Bool[Tensor, " b"]
    """Which images are mirrored."""
    warps: Float32[Tensor, "b 2 3"] | None
    """From output to input coordinates in pixels around the centre; None where nothing warps."""

    mixing: Mixing | None = None
    """How neighbours are mixed; None where none are."""

    def pin_memory(self) -> "Draws":
        """A copy in page-locked memory, of what is large enough to matter."""
        warps = None if self.warps is None else self.warps.pin_memory()
        return replace(self, flips=self.flips.pin_memory(), warps=warps)


def draw(
    config: AugmentConfig, *, seed: int, epoch: Int64[np.ndarray, " b"], index: Int64[np.ndarray, " b"], step: int = 0
) -> Draws:
    """Draws all augmentation but the crop for the samples `index` of the epochs `epoch`.

    Args:
        config: what varies.
        seed: the run's seed.
        epoch: of each sample.
        index: of each sample.
        step: the optimiser step that they belong to, where one draw holds for all its images.
    """
    return Draws(
        flips=torch.from_numpy(config.flip & (uniform(AUGMENTATION, seed, epoch, index, FLIP) < 0.5)),
        warps=_draw_warps(config, seed, epoch, index) if config.warps else None,
        mixing=draw_mixing(config.mix, seed=seed, epoch=epoch, index=index, step=step) if config.mix.mixes else None,
    )


def _draw_warps(
    config: AugmentConfig, seed: int, epoch: Int64[np.ndarray, " b"], index: Int64[np.ndarray, " b"]
) -> Float32[Tensor, "b 2 3"]:
    def signed(name: int) -> Float64[np.ndarray, " b"]:
        return 2 * uniform(AUGMENTATION, seed, epoch, index, name) - 1

    angle = np.radians(config.rotate) * signed(WARP)
    zoom = 1 / (1 + config.scale * signed(WARP + 1))
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    steps = config.shift + 0.5
    dx, dy = (np.rint(np.clip(steps * signed(name), -config.shift, config.shift)) for name in (WARP + 2, WARP + 3))
    rows = np.stack([cos, -sin, dx, sin, cos, dy], axis=1).reshape(-1, 2, 3)
    return torch.from_numpy(rows.astype(np.float32))
