"""Images that keep their aspect ratio: their size, and their rows of patches."""

import random
from dataclasses import replace
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data.naflex_transforms import get_image_size_for_seq
from transformers.models.siglip2.image_processing_siglip2 import get_image_size_for_max_num_patches

from vitral.data.images.patch_rows import MAX_SIDE, PLACE, fit_grid, flip_patches, to_patch_rows
from vitral.data.images.preprocess import Preprocessing
from vitral.errors import UserError


def native(**changes: Any) -> Preprocessing:
    values: dict[str, Any] = dict(image_size=(16, 16), channels=3, resize="native_aspect", patch_size=(4, 4))
    return Preprocessing(**{**values, **changes})


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def put_together(rows: np.ndarray, patch_hw: tuple[int, int]) -> np.ndarray:
    """The image of rows, whatever their order."""
    p, q = patch_hw
    gh, gw = rows[:, 0].max(), rows[:, 1].max()
    image = np.full((gh * p, gw * q, rows.shape[2]), 77, rows.dtype)
    for row in rows:
        (down, along), patch = row[:2, 0].astype(int), row[PLACE:].reshape(p, q, -1)
        if down:
            image[(down - 1) * p : down * p, (along - 1) * q : along * q] = patch
    return image


# The size of an image


def test_the_grid_is_that_of_timm_and_siglip2() -> None:
    """Both search for the scale by bisection; from a hundredfold on, theirs is no larger."""
    prng = random.Random(0)
    for _ in range(200):
        size, patch, most = (
            (prng.randint(40, 3000), prng.randint(40, 3000)),
            prng.choice([4, 14, 16]),
            prng.randint(1, 255),
        )
        gh, gw = fit_grid(size, patch_hw=(patch, patch), max_patches=most)
        assert (gh * patch, gw * patch) == get_image_size_for_seq(size, patch, most)[1]
        assert (gh * patch, gw * patch) == get_image_size_for_max_num_patches(*size, patch, most)


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 30), st.integers(1, 30), st.integers(1, 400))
@settings(max_examples=30)
def test_no_larger_scale_fits(height: int, width: int, p: int, q: int, most: int) -> None:
    """Brute force: all scales at which patches fill a side exactly, the largest that fits first."""
    scales = {Fraction(count * p, height) for count in range(1, MAX_SIDE + 1)}
    scales |= {Fraction(count * q, width) for count in range(1, MAX_SIDE + 1)}
    grids = ((ceil(height * scale / p), ceil(width * scale / q)) for scale in sorted(scales, reverse=True))
    largest = next(grid for grid in grids if grid[0] * grid[1] <= most and max(grid) <= MAX_SIDE)
    assert fit_grid((height, width), patch_hw=(p, q), max_patches=most) == largest


# Rows of patches


@pytest.mark.parametrize(("width", "height", "grid"), [(16, 16, (4, 4)), (90, 10, (1, 13)), (10, 40, (8, 2))])
def test_rows_are_the_patches_of_the_resized_image(width: int, height: int, grid: tuple[int, int]) -> None:
    spec, image = native(patch_size=(4, 2), max_patches=16), noise(width, height)
    grid = fit_grid((height, width), patch_hw=(4, 2), max_patches=16)
    rows = spec.pixels(image)
    assert rows.shape == spec.shape == (16, PLACE + 8, 3)
    assert np.count_nonzero(rows[:, 0, 0]) == grid[0] * grid[1]
    resized = image.resize((grid[1] * 2, grid[0] * 4), Image.Resampling.BILINEAR)
    assert np.array_equal(put_together(rows, (4, 2)), np.asarray(resized))
    assert not rows[grid[0] * grid[1] :].any()


def test_the_number_of_patches_is_the_models_unless_given() -> None:
    assert native().shape == (16, PLACE + 16, 3)
    assert native(max_patches=30).shape == (30, PLACE + 16, 3)
    adapted = native().with_input(image_size=(32, 16), channels=3, patch_size=(8, 8))
    assert (adapted.patch_size, adapted.num_patches) == ((8, 8), 8)
    squashed = replace(native(), resize="squash").with_input(image_size=(32, 16), channels=3, patch_size=(8, 8))
    assert squashed.patch_size is None
    assert squashed.shape == (32, 16, 3)
    for wrong in (0, 2**14 + 1):
        with pytest.raises(UserError, match="max-patches must be from 1 to 16384"):
            native(max_patches=wrong)


def test_normalised_rows_are_those_of_the_normalised_image() -> None:
    spec, image = native(mean=(0.2, 0.4, 0.6), std=(0.5, 0.25, 2.0)), noise(30, 7)
    rows = spec.normalise(torch.from_numpy(spec.pixels(image))[None])[0]
    gh, gw = fit_grid((7, 30), patch_hw=(4, 4), max_patches=16)
    fixed = replace(spec, resize="squash", image_size=(gh * 4, gw * 4))
    whole = fixed.normalise(torch.from_numpy(fixed.pixels(image))[None])[0]
    expected = rearrange(whole, "c (gh p) (gw q) -> (gh gw) (c p q)", p=4, q=4)
    assert torch.equal(rows[: gh * gw, PLACE:], expected)
    places = [[row, column] for row in range(1, gh + 1) for column in range(1, gw + 1)]
    assert rows[: gh * gw, :PLACE].tolist() == places


@pytest.mark.parametrize("vertical", [False, True])
def test_flips_are_those_of_the_whole_image(vertical: bool) -> None:
    spec, images = native(patch_size=(4, 2), max_patches=18), [noise(30, 7, 1), noise(9, 11, 2), noise(5, 40, 3)]
    batch = torch.from_numpy(np.stack([spec.pixels(image) for image in images]))
    flips = torch.tensor([True, False, True])
    flipped = flip_patches(batch, flips, patch_hw=(4, 2), axis=1 if vertical else 2)
    for before, after, flip in zip(batch.numpy(), flipped.numpy(), flips.tolist(), strict=True):
        whole = put_together(before, (4, 2))
        expected = np.flip(whole, 0 if vertical else 1) if flip else whole
        assert np.array_equal(put_together(after, (4, 2)), expected)


def test_a_side_of_the_most_patches_is_flipped_too() -> None:
    pixels = np.arange(MAX_SIDE, dtype=np.uint8).reshape(1, MAX_SIDE, 1)
    rows = torch.from_numpy(to_patch_rows(pixels, patch_hw=(1, 1), max_patches=300))[None]
    flipped = flip_patches(rows, torch.tensor([True]), patch_hw=(1, 1))
    assert np.array_equal(put_together(flipped[0].numpy(), (1, 1)), np.flip(pixels, 1))
