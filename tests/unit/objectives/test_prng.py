"""Random numbers from keys: the same everywhere, evenly spread, independent of one another."""

import numpy as np
import torch
from scipy import stats

from tiny import keys
from vitral.objectives.prng import sample_without_replacement, uniforms


def test_the_numbers_are_splitmix64s() -> None:
    """Beside NumPy's unsigned arithmetic."""
    with np.errstate(over="ignore"):
        state = np.array([12345, 2**63 - 1], np.uint64)[:, None]
        state = state + np.arange(2 * 2**20 + 1, 2 * 2**20 + 5, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        expected = ((state ^ (state >> np.uint64(31))) >> np.uint64(40)) * 2.0**-24
    found = uniforms(torch.tensor([12345, 2**63 - 1]), 4, use=2)
    np.testing.assert_array_equal(found.numpy(), expected.astype(np.float32))


def test_numbers_are_even_and_uses_independent() -> None:
    first, second = (uniforms(keys(500), 40, use=use).flatten().double().numpy() for use in (0, 1))
    assert stats.kstest(first, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    table = uniforms(keys(2000), 2, use=0).double().numpy()
    assert abs(np.corrcoef(table.T)[0, 1]) < 0.08, "neighbouring numbers of an image"


def test_every_choice_is_as_likely() -> None:
    picked = sample_without_replacement(keys(3000), 2, of=4, use=0)
    assert (picked[:, 0] != picked[:, 1]).all()
    pairs = torch.bincount(picked[:, 0] * 4 + picked[:, 1], minlength=16)
    counts = pairs[[a * 4 + b for a in range(4) for b in range(4) if a != b]]
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_an_image_draws_alike_in_any_batch() -> None:
    whole = uniforms(keys(8), 5, use=1)
    assert torch.equal(torch.cat([uniforms(part, 5, use=1) for part in keys(8).split(3)]), whole)
