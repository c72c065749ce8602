"""Test-time augmentation: which views, and the average of their probabilities."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from models import small_card, small_model
from vitral.data.images.preprocess import Preprocessing
from vitral.evals.tta import average_views, larger_preprocessing
from vitral.serve.predictor import Predictor, probabilities


def images(count: int, side: tuple[int, int]) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, *side, 3), np.uint8))


def views(pixels: torch.Tensor, tta: str) -> torch.Tensor:
    """The pixels of each view, by a model that gives them back."""
    preprocessing = replace(small_card().preprocessing, image_size=(2, 2))
    card = replace(small_card(), preprocessing=preprocessing, target="regression")
    seen = []

    def record(view: torch.Tensor) -> torch.Tensor:
        seen.append(view[:, :, :, 0].float())
        return torch.zeros(len(view), 1)

    average_views(record, pixels, tta, card)
    return torch.stack(seen)[:, 0]


def test_the_views_by_hand() -> None:
    """Crops of 2x2 pixels of an image of 4x4."""
    pixels = torch.arange(16, dtype=torch.uint8).reshape(1, 4, 4, 1).expand(-1, -1, -1, 3)
    crops = [[[5, 6], [9, 10]], [[0, 1], [4, 5]], [[2, 3], [6, 7]], [[8, 9], [12, 13]], [[10, 11], [14, 15]]]
    assert views(pixels, "five-crop").tolist() == crops
    mirrored = [[row[::-1] for row in crop] for crop in crops]
    assert views(pixels, "ten-crop").tolist() == [view for pair in zip(crops, mirrored, strict=True) for view in pair]
    assert views(pixels[:, :2, :2], "flip").tolist() == [[[0, 1], [4, 5]], [[1, 0], [5, 4]]]


@pytest.mark.parametrize("target", ["class", "multi-label", "regression"])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_probabilities_are_averaged(target: str, scale: float) -> None:
    """Also of outputs so large that some probabilities are 0."""
    card = replace(small_card(), target=target)
    outputs = scale * torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    each = iter(outputs)
    found = average_views(lambda _: next(each), images(4, card.preprocessing.image_size), "flip", card)
    assert found.isfinite().all() or scale > 1
    expected = torch.stack([probabilities(view, card) for view in outputs]).mean(0)
    torch.testing.assert_close(probabilities(found, card), expected)


@pytest.mark.parametrize(
    ("resize", "ratio", "size"),
    [("squash", 0.9, 36), ("crop", 0.8, 40), ("squash_crop", 0.8, 40), ("crop", 1.0, 36)],
)
def test_crops_are_taken_from_the_resized_image(resize: str, ratio: float, size: int) -> None:
    """Of a wide image with `crop`, from its central square; the centre is the model's own centre crop."""
    model = Preprocessing(image_size=(32, 32), channels=3, resize=resize, crop_ratio=ratio)
    larger = larger_preprocessing(model, "ten-crop")
    assert larger.image_size == (size, size)
    assert larger_preprocessing(model, "flip") == model
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 160, 3), np.uint8))
    pixels = larger.pixels(picture)
    if ratio == 0.8:
        offset = (size - 32) // 2
        centre = pixels[offset : offset + 32, offset : offset + 32]
        assert np.abs(centre.astype(int) - model.pixels(picture)).max() <= 1


@pytest.mark.parametrize("tta", ["flip", "five-crop", "ten-crop"])
def test_a_predictor_gives_the_same_whatever_the_batch_size(tta: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5, 50, 70, 3), np.uint8)
    each, all_at_once = (
        list(Predictor(small_model(), device="cpu", batch_size=size, tta=tta).predict(noise)) for size in (1, 5)
    )
    plain = list(Predictor(small_model(), device="cpu").predict(noise))
    for one, other, without in zip(each, all_at_once, plain, strict=True):
        assert one.classes == other.classes
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-6)
        assert sum(one.probabilities) == pytest.approx(1)
        assert one.probabilities != pytest.approx(without.probabilities, abs=1e-6)


def test_a_mirror_image_gives_the_same_with_flip() -> None:
    predictor = Predictor(small_model(), device="cpu", tta="flip")
    pixels = images(3, predictor.card.preprocessing.image_size)
    torch.testing.assert_close(predictor.logits(pixels), predictor.logits(pixels.flip(2)))


def test_an_unknown_augmentation() -> None:
    with pytest.raises(ValueError, match="ten-crop"):
        Predictor(small_model(), tta="tencrop")
