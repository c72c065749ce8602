"""Random numbers of each image as a function of its key, computed on the batch's device; equal on every device."""

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

__all__ = ["sample_without_replacement", "uniforms"]

STEP = 0x9E3779B97F4A7C15 - 2**64
STEP_HIGH, STEP_LOW = STEP >> 32, STEP & (2**32 - 1)
FIRST, SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64
"""SplitMix64's constants as signed integers; signed and unsigned products overflow to the same bits."""

STREAM_LENGTH = 2**20
"""Numbers in each stream."""


def uniforms(keys: Int64[Tensor, " b"], count: int, *, stream: int) -> Float32[Tensor, "b count"]:
    """Uniform numbers in [0, 1) for each image.

    Args:
        keys: of the images, as in `Examples`.
        count: numbers for each image.
        stream: different streams are independent.
    """
    assert count < STREAM_LENGTH
    start = stream * STREAM_LENGTH + 1
    numbers = torch.arange(start, start + count, device=keys.device)
    # times STEP, in halves: torch.compile computes with the numbers of `arange` exactly, and refuses to overflow
    state = keys[:, None] + ((numbers * STEP_HIGH) << 32) + numbers * STEP_LOW
    state = (state ^ _shift_right(state, 30)) * FIRST
    state = (state ^ _shift_right(state, 27)) * SECOND
    return _shift_right(state ^ _shift_right(state, 31), 40).to(torch.float32) * 2.0**-24


def sample_without_replacement(
    keys: Int64[Tensor, " b"], count: int, *, of: int, stream: int
) -> Int64[Tensor, "b count"]:
    """`count` different numbers below `of` for each image, in random order."""
    return uniforms(keys, of, stream=stream).argsort(dim=1, stable=True)[:, :count]


def _shift_right(state: Int64[Tensor, "*b"], places: int) -> Int64[Tensor, "*b"]:
    """Logical shift, which fills with zeros; that of signed integers is arithmetic."""
    return (state >> places) & (2 ** (64 - places) - 1)
