"""Random parameters of a batch's augmentation; each is a function of seed, epoch and sample."""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

from vitral.data.augment.config import AugmentConfig
from vitral.data.order import AUGMENTATION, MIXING, OBJECTIVE, random_bits, uniform

__all__ = ["AugmentParams", "sample_params"]


@dataclass(frozen=True, kw_only=True)
class AugmentParams:
    """Random parameters of one batch's augmentation."""

    flips: Bool[Tensor, " b"]
    """Which images are flipped horizontally; stays on the host."""
    warps: Float32[Tensor, "b 2 3"] | None
    """Affine matrices from output to input coordinates, in pixels around the centre; None: no warp."""
    keys: Int64[Tensor, " b"]
    """A random key for each image, at least 0, from which an objective derives its own random numbers."""
    uniforms: dict[str, Float64[np.ndarray, "b n"]] = field(default_factory=dict)
    """Uniform numbers in [0, 1) for each other augmentation; they stay on the host."""
    mix_uniforms: Float64[np.ndarray, "pairs 5"] | None = None
    """The same for mixing each pair of neighbours."""

    def pin_memory(self) -> "AugmentParams":
        """A copy in page-locked memory."""
        warps = None if self.warps is None else self.warps.pin_memory()
        return replace(self, warps=warps, keys=self.keys.pin_memory())


def sample_params(
    config: AugmentConfig,
    *,
    seed: int,
    epoch: Int64[np.ndarray, " b"],
    index: Int64[np.ndarray, " b"],
    pairs: Int64[np.ndarray, " pairs"] | None = None,
) -> AugmentParams:
    """Samples the augmentation of the images `index` in the epochs `epoch`.

    Args:
        config: the augmentations.
        seed: the run's.
        epoch: of each sample.
        index: of each sample.
        pairs: number of each pair of neighbours, counted from the run's first; None: nothing is mixed.
    """
    uniforms = {
        name: uniform(AUGMENTATION, seed, epoch[:, None], index[:, None], first + np.arange(count)[None])
        for name, (first, count, used) in _columns(config).items()
        if used
    }
    mix_uniforms = None
    if config.mixes and pairs is not None:
        mix_uniforms = uniform(MIXING, seed, pairs[:, None], np.arange(5)[None])
    flips, warps = _warps(config, seed=seed, epoch=epoch, index=index)
    keys = torch.from_numpy((random_bits(OBJECTIVE, seed, epoch, index) >> np.uint64(1)).astype(np.int64))
    return AugmentParams(flips=flips, warps=warps, keys=keys, uniforms=uniforms, mix_uniforms=mix_uniforms)


def _columns(config: AugmentConfig) -> dict[str, tuple[int, int, bool]]:
    """By augmentation: the first column of its random numbers, their count, and whether it is on."""
    return {
        "vertical": (600, 1, config.flip_vertical),
        "randaugment": (700, 4 * config.randaugment_layers, config.randaugment != "none"),
        "three": (1000, 2, config.three_augment),
        "jitter": (1100, 6, config.colour_jitter > 0),
        "erase": (1200, 42, config.erase > 0),
    }


def _warps(
    config: AugmentConfig, *, seed: int, epoch: Int64[np.ndarray, " b"], index: Int64[np.ndarray, " b"]
) -> tuple[Bool[Tensor, " b"], Float32[Tensor, "b 2 3"] | None]:
    """Horizontal flips, and affine matrices for shift, rotation and scale."""

    def signed(name: int) -> Float64[np.ndarray, " b"]:
        return 2 * uniform(AUGMENTATION, seed, epoch, index, name) - 1

    flips = torch.from_numpy(config.flip & (signed(0) < 0))
    if not config.warps:
        return flips, None
    angle = np.radians(config.rotate) * signed(1)
    zoom = 1 / (1 + config.scale * signed(2))
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    steps = config.shift + 0.5
    dx, dy = (np.rint(np.clip(steps * signed(name), -config.shift, config.shift)) for name in (3, 4))
    rows = np.stack([cos, -sin, dx, sin, cos, dy], axis=1).reshape(-1, 2, 3)
    return flips, torch.from_numpy(rows.astype(np.float32))
