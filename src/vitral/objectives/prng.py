"""Random numbers of each image on the batch's own device, from its key alone: the same on every device and machine."""

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

__all__ = ["sample_without_replacement", "uniforms"]

STEP = 0x9E3779B97F4A7C15 - 2**64
FIRST, SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64
"""SplitMix64's constants as signed integers, whose products overflow alike."""

APART = 2**20
"""More numbers are never drawn for one use."""


def uniforms(keys: Int64[Tensor, " b"], count: int, *, use: int) -> Float32[Tensor, "b count"]:
    """Numbers in [0, 1) for each image.

    Args:
        keys: of the images, as `Examples` has them.
        count: numbers for each.
        use: what for; different uses are independent.
    """
    assert count < APART
    numbers = torch.arange(use * APART + 1, use * APART + 1 + count, device=keys.device)
    state = keys[:, None] + numbers * STEP
    state = (state ^ _shifted(state, 30)) * FIRST
    state = (state ^ _shifted(state, 27)) * SECOND
    return _shifted(state ^ _shifted(state, 31), 40).to(torch.float32) * 2.0**-24


def sample_without_replacement(keys: Int64[Tensor, " b"], count: int, *, of: int, use: int) -> Int64[Tensor, "b count"]:
    """`count` different numbers below `of` for each image, in random order; every choice is as likely."""
    return uniforms(keys, of, use=use).argsort(dim=1, stable=True)[:, :count]


def _shifted(state: Int64[Tensor, "*b"], places: int) -> Int64[Tensor, "*b"]:
    """Bits moved down, zeros following: integers are signed here."""
    return (state >> places) & (2 ** (64 - places) - 1)
