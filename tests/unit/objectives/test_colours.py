"""Colours of crops against torchvision, and how often they change."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from tiny import keys
from vitral.objectives.colours import NUM_COLOUR_DRAWS, Colours, change_colours
from vitral.objectives.crops import random_resized_crop
from vitral.objectives.dino import CropConfig
from vitral.recipes import RECIPES

COUNT = 6
EVERYTHING = Colours(jitter_probability=0.8, saturation=0.2, hue=0.1, grey=0.2, blur=0.5, solarise=0.2)


def crops(count: int = COUNT, channels: int = 3, size: int = 20) -> Tensor:
    """Values in 0..1, some of them without colour."""
    images = torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(0))
    images[:, :, :4] = images[:, :1, :4]
    images[:, :, 4] = 0.0
    images[:, :, 5] = 1.0
    return images


def draws(count: int = COUNT) -> Tensor:
    return torch.rand(count, NUM_COLOUR_DRAWS, generator=torch.Generator().manual_seed(1))


def test_saturation_is_torchvisions() -> None:
    numbers = draws()
    actual = change_colours(crops(), numbers, Colours(saturation=0.6))
    for image, draw, result in zip(crops(), numbers, actual, strict=True):
        factor = 1 + 0.6 * (2 * draw[1].item() - 1)
        torch.testing.assert_close(result, TF.adjust_saturation(image, factor), rtol=0, atol=1e-4)


@pytest.mark.parametrize("hue", [0.1, 0.5])
def test_hue_is_torchvisions(hue: float) -> None:
    numbers = draws()
    actual = change_colours(crops(), numbers, Colours(hue=hue))
    for image, draw, result in zip(crops(), numbers, actual, strict=True):
        torch.testing.assert_close(result, TF.adjust_hue(image, hue * (2 * draw[2].item() - 1)), rtol=0, atol=1e-5)


def test_greyscale_is_torchvisions() -> None:
    actual = change_colours(crops(), draws(), Colours(grey=1.0))
    torch.testing.assert_close(actual, TF.rgb_to_grayscale(crops(), 3), rtol=0, atol=1e-4)


def test_blur_is_torchvisions() -> None:
    """The kernel ends at 6 pixels, three deviations of the widest blur."""
    numbers = draws()
    actual = change_colours(crops(), numbers, Colours(blur=1.0))
    for image, draw, result in zip(crops(), numbers, actual, strict=True):
        expected = TF.gaussian_blur(image, [13, 13], [0.1 + 1.9 * draw[5].item()] * 2)
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


def test_solarisation_is_torchvisions() -> None:
    actual = change_colours(crops(), draws(), Colours(solarise=1.0))
    torch.testing.assert_close(actual, TF.solarize(crops(), 128 / 255))


@pytest.mark.parametrize("name", ["grey", "blur", "solarise"])
def test_some_crops_change_and_others_keep_every_bit(name: str) -> None:
    images = crops(400, size=6)
    actual = change_colours(images, draws(400), Colours(**{name: 0.3}))
    changed = (actual != images).flatten(1).any(1)
    assert changed.double().mean().item() == pytest.approx(0.3, abs=0.08)


def test_jitter_is_all_or_nothing_for_a_crop() -> None:
    """Brightness, contrast, saturation and hue change together, eight times of ten."""
    images = crops(400, size=8)
    plain = dict(index=0, area=(1.0, 1.0), size=(8, 8))
    unchanged = random_resized_crop(images, keys(400), **plain, jitter=0.0)
    by_light = random_resized_crop(images, keys(400), **plain, jitter=0.4, colours=Colours(jitter_probability=0.8))
    by_hue = random_resized_crop(
        images, keys(400), **plain, jitter=0.0, colours=Colours(jitter_probability=0.8, saturation=0.2, hue=0.1)
    )
    one, other = ((each - unchanged).abs().amax((1, 2, 3)) > 1e-6 for each in (by_light, by_hue))
    assert torch.equal(one, other)
    assert one.double().mean().item() == pytest.approx(0.8, abs=0.07)


def test_a_crop_does_not_depend_on_the_others() -> None:
    images, image_keys = crops(), keys(COUNT)

    def changed(rows: slice) -> Tensor:
        geometry = dict(index=1, area=(0.4, 1.0), size=(16, 16))
        return random_resized_crop(images[rows], image_keys[rows], **geometry, jitter=0.4, colours=EVERYTHING)

    together = changed(slice(None))
    assert together.min() >= 0
    assert together.max() <= 1
    for row in range(COUNT):
        torch.testing.assert_close(changed(slice(row, row + 1))[0], together[row], rtol=0, atol=0.01)


def test_grey_images_are_blurred_and_solarised_only() -> None:
    images = crops(channels=1)
    expected = change_colours(images, draws(), Colours(blur=0.5, solarise=0.2))
    assert torch.equal(change_colours(images, draws(), EVERYTHING), expected)


def test_sixteen_bits_of_the_model_leave_the_images_alone() -> None:
    expected = change_colours(crops(), draws(), EVERYTHING)
    with torch.autocast("cpu", torch.bfloat16):
        actual = change_colours(crops(), draws(), EVERYTHING)
    assert torch.equal(actual, expected)


def test_the_recipe_has_the_colours_of_the_authors() -> None:
    """facebookresearch/dino, main_dino.py: blur always, hardly ever, half the time; solarisation of the second crop."""
    config = RECIPES["dino"]().objective.crops
    assert config.jitter == 0.4
    shared = dict(jitter_probability=0.8, saturation=0.2, hue=0.1, grey=0.2)
    assert [config.colours(index) for index in range(4)] == [
        Colours(**shared, blur=1.0),
        Colours(**shared, blur=0.1, solarise=0.2),
        Colours(**shared, blur=0.5),
        Colours(**shared, blur=0.5),
    ]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"hue": 0.6}, r"crops\.hue must be from 0 to 0\.5, .* not 0\.6"),
        ({"blur": (0.1, 1.2, 0.0)}, "blur and solarise must be from 0 to 1"),
        ({"saturation": float("nan")}, "must be from 0 to 1"),
    ],
)
def test_values_out_of_range(values: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        CropConfig(**values)


@pytest.mark.compile
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_into_one_graph(backend: str) -> None:
    """With its random numbers, whose products overflow on purpose."""

    def changed(images: Tensor, image_keys: Tensor) -> Tensor:
        geometry = dict(index=1, area=(0.4, 1.0), size=(16, 16))
        return random_resized_crop(images, image_keys, **geometry, jitter=0.4, colours=EVERYTHING)

    compiled = torch.compile(changed, backend=backend, fullgraph=True)
    # rounding may take a value across the threshold of solarisation, where it jumps by 0.004
    torch.testing.assert_close(compiled(crops(), keys(COUNT)), changed(crops(), keys(COUNT)), rtol=0, atol=0.01)
