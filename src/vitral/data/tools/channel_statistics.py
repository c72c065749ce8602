"""Mean and standard deviation of each channel of a source's images."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Float64

from vitral.data.images.bands import BandImage, read_bands
from vitral.data.images.decode import UnreadableImage
from vitral.data.order import STATISTICS, random_bits
from vitral.data.sources.source import Source
from vitral.data.tools.parallel_map import parallel_map
from vitral.errors import UserError

__all__ = ["MAX_IMAGES", "ChannelStatistics", "channel_statistics"]

MAX_IMAGES = 2000
"""Images that are read at most."""

THREADS = 4


@dataclass(frozen=True, kw_only=True)
class ChannelStatistics:
    """Over all pixels that are not missing, in the files' own units."""

    mean: tuple[float, ...]
    """Of each channel."""
    std: tuple[float, ...]
    """Of each channel; 1 for a channel with a single value."""
    num_images: int
    """Images that were read."""
    constant: tuple[int, ...] = ()
    """Channels with a single value, or none, counted from 1."""

    def describe(self) -> str:
        """A sentence with the numbers."""
        pairs = ", ".join(f"{mean:.5g} ± {std:.4g}" for mean, std in zip(self.mean, self.std, strict=True))
        text = f"mean ± standard deviation of each channel, over {self.num_images:,} training images: {pairs}"
        if not self.constant:
            return text
        return f"{text}; all pixels are equal in channel {', '.join(map(str, self.constant))}"


def channel_statistics(
    source: Source, *, channels: int, seed: int, on_error: Literal["stop", "skip"]
) -> ChannelStatistics:
    """Reads every image of a source, or `MAX_IMAGES` of them, sampled by the seed.

    Args:
        source: the training images.
        channels: of each image.
        seed: at least 0.
        on_error: whether an unreadable image is skipped.

    Raises:
        UserError: an image cannot be read, and `on_error` is stop; or none can be read.
    """
    order = np.argsort(random_bits(STATISTICS, seed, np.arange(len(source))), kind="stable")[:MAX_IMAGES]
    count, mean, square = np.zeros(channels), np.zeros(channels), np.zeros(channels)
    num_images, first = 0, ""
    # in this order, so that rounding is the same on every machine
    for moments in parallel_map(partial(_moments, source, channels), np.sort(order).tolist(), threads=THREADS):
        if isinstance(moments, UnreadableImage):
            if on_error == "stop":
                raise UserError(
                    f"{moments}; change --data.channels, remove the file, or skip such files with --data.on-error skip"
                )
            first = first or str(moments)
            continue
        num_images += 1
        count, mean, square = _combined((count, mean, square), moments)
    if not num_images:
        raise UserError(f"no training image can be read: {first}")
    std = np.sqrt(square / np.maximum(count, 1))
    constant = ~(std > 1e-7 * np.abs(mean))  # float32 cannot hold smaller differences
    return ChannelStatistics(
        mean=tuple(mean.tolist()),
        std=tuple(np.where(constant, 1.0, std).tolist()),
        num_images=num_images,
        constant=tuple((np.flatnonzero(constant) + 1).tolist()),
    )


Moments = Iterable[Float64[np.ndarray, " c"]]
"""Number of values, their mean, and the sum of squared differences from it, for each channel."""


def _moments(source: Source, channels: int, index: int) -> Moments | UnreadableImage:
    try:
        image = read_bands(source.stored(index), channels=channels, name=source.name(index))
    except UnreadableImage as error:
        return error
    return _image_moments(image)


def _image_moments(image: BandImage) -> Moments:
    values = image.values.astype(np.float64)
    present = np.ones_like(values) if image.missing is None else (~image.missing).astype(np.float64)
    values = np.where(present > 0, values, 0)
    count = present.sum((0, 1))
    mean = values.sum((0, 1)) / np.maximum(count, 1)
    return count, mean, (np.square(values - mean) * present).sum((0, 1))


def _combined(one: Moments, other: Moments) -> tuple[Float64[np.ndarray, " c"], ...]:
    """The moments of all values of both (Chan et al. 1979), which are exact for large means and small deviations."""
    (n, mean, square), (m, other_mean, other_square) = one, other
    total, difference = n + m, other_mean - mean
    weight = m / np.maximum(total, 1)
    return total, mean + difference * weight, square + other_square + np.square(difference) * n * weight
