"""The preprocessing specification: its geometry, its numbers, its checks."""

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from torchvision.transforms.v2 import functional

from vitral.data.images.preprocess import Preprocessing

MODES = {1: "L", 3: "RGB"}
EVERYTHING = (0.0, 0.0, 1.0, 1.0)
SIDES = st.integers(1, 40)
FILTERS = st.sampled_from(["bilinear", "bicubic", "lanczos"])


def noise(width: int, height: int, channels: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels)


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from([1, 3]), FILTERS)
def test_squash_equals_the_crop_of_everything(width, height, out_width, out_height, channels, interpolation):
    spec = Preprocessing(image_size=(out_height, out_width), channels=channels, interpolation=interpolation)
    image = noise(width, height, channels)
    pixels = spec.pixels(image)
    assert pixels.shape == (out_height, out_width, channels)
    assert pixels.dtype == np.uint8
    assert (pixels == spec.crop(image, EVERYTHING)).all()


@given(SIDES, SIDES, st.sampled_from([1, 3]), st.sampled_from(["squash", "crop"]))
def test_an_image_of_the_right_size_comes_through_untouched(width, height, channels, resize):
    spec = Preprocessing(image_size=(height, width), channels=channels, resize=resize, crop_ratio=1.0)
    image = noise(width, height, channels)
    assert spec.pixels(image).tobytes() == image.tobytes()
    assert spec.crop(image, EVERYTHING).tobytes() == image.tobytes()


@given(SIDES, SIDES, SIDES, SIDES, st.floats(0.3, 1), FILTERS)
def test_centre_crop_equals_resizing_everything_then_cutting(width, height, out_width, out_height, ratio, kind):
    spec = Preprocessing(
        image_size=(out_height, out_width), channels=1, resize="crop", crop_ratio=ratio, interpolation=kind
    )
    # faint noise: none of the filters overshoots 0..255, where it would be cut between Pillow's two passes
    image = noise(width, height, 1).point(lambda value: 64 + value // 2)
    target = math.floor(out_width / ratio + 1e-6), math.floor(out_height / ratio + 1e-6)
    scale = max((target[0] / width, 0), (target[1] / height, 1))
    whole = (target[0], target[0] * height // width) if scale[1] == 0 else (target[1] * width // height, target[1])
    resized = np.asarray(image.resize(whole, Image.Resampling[kind.upper()])).astype(int)
    left, top = round((whole[0] - out_width) / 2), round((whole[1] - out_height) / 2)
    expected = resized[top : top + out_height, left : left + out_width, None]
    found = spec.pixels(image).astype(int)
    assert found.shape == expected.shape
    # each pass rounds, and which comes first depends on the sizes
    assert np.abs(found - expected).max() <= 2


def test_centre_crop_by_hand():
    """256 of 512 is the short side; 224 of 256 are cropped: the middle 448 pixels, every second one's mean."""
    columns = np.arange(640) // 2 % 256
    image = Image.fromarray(np.tile(columns, (512, 1)).astype(np.uint8))
    spec = Preprocessing(image_size=(224, 224), channels=1, resize="crop")
    row = spec.pixels(image)[100, :, 0].astype(int)
    expected = (np.arange(224) + (320 - 224) // 2) % 256
    inside = (expected > 2) & (expected < 253)
    assert np.abs(row - expected)[inside].max() <= 1


def test_a_very_wide_image_costs_no_more_than_its_crop():
    spec = Preprocessing(image_size=(224, 224), channels=1, resize="crop")
    # resized whole, this would be 2.5 million pixels wide and take 655 MB
    assert (spec.pixels(Image.new("L", (10_000, 1), 7)) == 7).all()
    assert (spec.pixels(Image.new("L", (1, 10_000), 7)) == 7).all()


def test_crop_takes_the_given_part():
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    spec = Preprocessing(image_size=(2, 4), channels=1)
    part = spec.crop(image, (0.25, 0.5, 0.75, 0.75))
    assert part[..., 0].tolist() == np.asarray(image)[4:6, 2:6].tolist()


@given(st.floats(0, 0.9), st.floats(0, 0.9), st.floats(0.01, 1), st.floats(0.01, 1), SIDES, SIDES)
def test_any_box_gives_the_input_size(left, top, across, down, width, height):
    box = left, top, min(left + across, 1.0), min(top + down, 1.0)
    spec = Preprocessing(image_size=(5, 7), channels=3)
    pixels = spec.crop(noise(width, height, 3), box)
    assert pixels.shape == (5, 7, 3)
    # a mean of pixels, so between the darkest and the brightest
    assert (spec.crop(Image.new("RGB", (width, height), (3, 4, 5)), box) == (3, 4, 5)).all()


def test_shrinking_does_not_alias():
    stripes = Image.fromarray(np.tile(np.uint8([0, 255]), (64, 32)))
    spec = Preprocessing(image_size=(8, 8), channels=1)
    assert np.abs(spec.pixels(stripes)[:, 1:-1].astype(int) - 127.5).max() <= 4


@pytest.mark.parametrize("channels", [1, 3])
def test_the_default_range_is_minus_one_to_one(channels):
    batch = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 1, 3, 1).expand(-1, -1, -1, channels)
    images = Preprocessing(image_size=(1, 3), channels=channels).normalise(batch)
    assert images.shape == (1, channels, 1, 3)
    assert images.dtype == torch.float32
    assert images.is_contiguous()
    for plane in images[0]:
        assert plane.tolist() == [[-1, pytest.approx(-0.6), 1]]


def test_mean_and_std_of_each_channel():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    spec = Preprocessing(image_size=(2, 3), channels=3, mean=mean, std=std)
    batch = torch.randint(0, 256, (4, 2, 3, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = (batch.double() / 255 - torch.tensor(mean).double()) / torch.tensor(std).double()
    torch.testing.assert_close(spec.normalise(batch).double(), expected.permute(0, 3, 1, 2), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"image_size": (0, 4)}, "image_size must be at least 1x1 pixels"),
        ({"channels": 4}, "channels must be 1"),
        ({"crop_ratio": 0.0}, "crop_ratio must be above 0 and at most 1"),
        ({"crop_ratio": 1.5}, "crop_ratio must be above 0 and at most 1"),
        ({"mean": (0.5, 0.5)}, "mean takes one number or one for each of 3 channels"),
        ({"mean": (float("nan"),)}, "mean must be finite"),
        ({"std": ()}, "std takes one number or one for each of 3 channels"),
        ({"std": (0.5, 0.0, 0.5)}, "std must be above 0"),
        ({"std": (float("inf"),)}, "std must be finite"),
        ({"std": (1e-320,)}, "mean must be at most 1e.15, and std from 1e-15"),
        ({"mean": (1e308,)}, "mean must be at most 1e.15, and std from 1e-15"),
        ({"crop_ratio": 1e-300}, "crop_ratio must be at least 0.01"),
    ],
)
def test_values_out_of_range(wrong, sentence):
    right = Preprocessing(image_size=(4, 4), channels=3)
    with pytest.raises(ValueError, match=f"^{sentence}"):
        replace(right, **wrong)


def test_it_is_plain_values():
    spec = Preprocessing(image_size=(4, 6), channels=3, mean=(0.1, 0.2, 0.3))
    values = json.loads(json.dumps(asdict(spec)))
    assert values == {
        "image_size": [4, 6],
        "channels": 3,
        "bands": False,
        "resize": "squash",
        "max_patches": None,
        "patch_size": None,
        "crop_ratio": 0.875,
        "interpolation": "bilinear",
        "mean": [0.1, 0.2, 0.3],
        "std": [0.5],
    }


def test_other_channels_take_the_mean_of_shift_and_scale() -> None:
    colour = Preprocessing(image_size=(8, 8), channels=3, mean=(0.1, 0.2, 0.6), std=(0.5, 0.5, 0.2))
    grey = colour.with_input(image_size=(4, 6), channels=1)
    assert (grey.image_size, grey.channels) == ((4, 6), 1)
    assert (grey.mean, grey.std) == (pytest.approx((0.3,)), pytest.approx((0.4,)))
    assert colour.with_input(image_size=(8, 8), channels=3) == colour
    assert grey.with_input(image_size=(8, 8), channels=3).mean == grey.mean


class TestSimpleCrop:
    @pytest.mark.parametrize("size", [(50, 31), (31, 50), (24, 24), (240, 30)])
    @pytest.mark.parametrize("place", [(0.0, 0.0), (0.999, 0.999), (0.4, 0.7)])
    def test_is_torchvisions_resize_padding_and_crop(self, size, place):
        image = noise(*size, 3).filter(ImageFilter.BoxBlur(2))
        resized = functional.resize(image, [24], interpolation=functional.InterpolationMode.BILINEAR)
        padded = np.asarray(functional.pad(resized, [4], padding_mode="reflect")).astype(int)
        left, top = (int(fraction * (side - 24 + 1)) for fraction, side in zip(place, padded.shape[1::-1], strict=True))
        found = Preprocessing(image_size=(24, 24), channels=3).simple_crop(image, place)
        assert found.shape == (24, 24, 3)
        assert np.abs(found - padded[top : top + 24, left : left + 24]).max() <= 1

    @given(SIDES, SIDES, st.integers(5, 40), st.integers(5, 40), st.floats(0, 0.999), st.floats(0, 0.999))
    def test_any_image_gives_the_inputs_size(self, width, height, out_width, out_height, across, down):
        spec = Preprocessing(image_size=(out_height, out_width), channels=1)
        assert spec.simple_crop(noise(width, height, 1), (across, down)).shape == (out_height, out_width, 1)
