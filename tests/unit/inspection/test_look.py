"""Prediction and attention maps of one image."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from models import small_model
from vitral.inspection.attention import attention_weights, rollout
from vitral.inspection.look import look


@pytest.fixture
def image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 90, 3), np.uint8))


def test_prediction_and_maps_are_those_of_the_model(image: Image.Image) -> None:
    model = small_model()
    preprocessing = model.card.preprocessing
    images = preprocessing.normalise(torch.from_numpy(preprocessing.pixels(image).copy())[None])
    result = look(model, image, name="a.jpg", truth="class 1")
    probabilities = model(images).softmax(1)[0]
    assert result.predicted == f"class {int(probabilities.argmax())}"
    assert result.probability == pytest.approx(probabilities.max().item())
    assert (result.name, result.truth) == ("a.jpg", "class 1")
    weights = attention_weights(model, images)
    assert_close(result.rollout, rollout(weights)[0, 0, 1:].reshape(2, 3))
    assert_close(result.layers[1], weights[1][0].mean(0)[0, 1:].reshape(2, 3))


def test_a_squashed_image_is_shown_whole(image: Image.Image) -> None:
    assert look(small_model(), image, name="a").image.size == (90, 40)


def test_a_cropped_image_is_shown_as_cropped(image: Image.Image) -> None:
    model = small_model()
    model.card = replace(model.card, preprocessing=replace(model.card.preprocessing, resize="crop", crop_ratio=1.0))
    shown = look(model, image, name="a").image
    assert shown.size == (48, 32)
    # the crop is as high as the image, and cuts left and right alike
    middle = image.crop((15, 0, 75, 40)).resize((48, 32), Image.Resampling.BILINEAR)
    assert np.abs(np.asarray(shown, float) - np.asarray(middle, float)).mean() < 2


def test_a_grey_model_shows_grey() -> None:
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    assert look(small_model(channels=1), grey, name="a").image.mode == "L"
