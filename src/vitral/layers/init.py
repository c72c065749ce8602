"""Initial values that PyTorch has no function for."""

import math

from torch import Generator, Tensor, nn

__all__ = ["lecun_normal_"]


def lecun_normal_(weight: Tensor, generator: Generator | None = None) -> None:
    """Variance 1 / fan-in after truncation at two standard deviations, as Flax draws it.

    Args:
        weight: of a dense layer or a convolution, outputs first; written in place.
        generator: source of the randomness; the global one when None.
    """
    if weight.is_meta:
        return  # there is nothing to draw, for which PyTorch 2.11 would first import a whole compiler
    std = math.sqrt(1 / weight[0].numel()) / 0.87962566103423978
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std, generator=generator)
