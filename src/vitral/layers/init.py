"""Initialisers that PyTorch does not have."""

import math

from torch import Generator, Tensor, nn

__all__ = ["lecun_normal_"]


def lecun_normal_(weight: Tensor, generator: Generator | None = None) -> None:
    """Truncated normal with variance 1 / fan-in after truncation at two standard deviations, as in Flax.

    Args:
        weight: weight of a dense layer or convolution, output axis first; changed in place.
        generator: source of random numbers; None: the global one.
    """
    std = math.sqrt(1 / weight[0].numel()) / 0.87962566103423978
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std, generator=generator)
