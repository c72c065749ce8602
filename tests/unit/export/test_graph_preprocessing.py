"""Preprocessing inside the graph is Pillow's."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from photographs import PHOTOGRAPHS
from vitral.data.images.preprocess import Preprocessing
from vitral.export.preprocessing import WithPreprocessing

SQUASH = Preprocessing(image_size=(48, 64), channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
Resize = Literal["squash", "crop", "squash_crop"]
RESIZES: tuple[Resize, ...] = ("squash", "crop", "squash_crop")
FORMS = {
    f"{resize}, {interpolation}": replace(SQUASH, resize=resize, interpolation=interpolation)
    for resize in RESIZES
    for interpolation in ("bilinear", "bicubic", "lanczos")
}
FORMS["the whole centre"] = replace(SQUASH, resize="crop", crop_ratio=1.0)


def resized(preprocessing: Preprocessing, image: Image.Image) -> np.ndarray:
    network = WithPreprocessing(nn.Identity(), preprocessing)
    levels = network.resize(torch.from_numpy(np.array(image))[None])
    return levels[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [(300, 451), (451, 300), (40, 30), (48, 64), (49, 200), (7, 7)])
def test_pixels_are_those_of_pillow(form: str, size: tuple[int, int]) -> None:
    height, width = size
    image = Image.fromarray(PHOTOGRAPHS["coffee"]()).crop((60, 20, 60 + width, 20 + height))
    assert np.array_equal(resized(FORMS[form], image), FORMS[form].pixels(image))


@given(height=st.integers(1, 90), width=st.integers(1, 90), resize=st.sampled_from(RESIZES), ratio=st.floats(0.3, 1))
def test_images_of_any_size_are_cropped_alike(height: int, width: int, resize: Resize, ratio: float) -> None:
    preprocessing = replace(SQUASH, image_size=(16, 24), resize=resize, crop_ratio=ratio)
    noise = np.random.default_rng(height * 91 + width).integers(0, 256, (height, width, 3), np.uint8)
    assert np.array_equal(resized(preprocessing, Image.fromarray(noise)), preprocessing.pixels(Image.fromarray(noise)))


def test_the_network_gets_normalised_images() -> None:
    image = Image.fromarray(PHOTOGRAPHS["cat"]())
    expected = SQUASH.normalise(torch.from_numpy(SQUASH.pixels(image))[None])
    found = WithPreprocessing(nn.Identity(), SQUASH)(torch.from_numpy(np.array(image))[None])
    assert (found - expected).abs().max() < 1e-5
