"""Perceptual hashes: copies stay near, other pictures stay away."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from scipy.fft import dctn

from photographs import PHOTOGRAPHS
from vitral.data.sources.source import ArraySource
from vitral.data.tools.hashing import SIDE, VIEWS, perceptual_hashes
from vitral.data.tools.near_duplicates import (
    Pair,
    embedding_pairs,
    hash_images,
    hash_pairs,
    is_featureless,
    thumbnail,
)


def pictures() -> list[Image.Image]:
    """Each photograph whole, and four quarters of it, which do not overlap."""
    found = []
    for photograph in PHOTOGRAPHS.values():
        whole = Image.fromarray(photograph())
        width, height = whole.width // 2, whole.height // 2
        places = [(x * width, y * height) for x in (0, 1) for y in (0, 1)]
        found += [whole, *(whole.crop((x, y, x + width, y + height)) for x, y in places)]
    return found


def recompressed(image: Image.Image) -> Image.Image:
    stream = BytesIO()
    image.save(stream, "JPEG", quality=40)
    return Image.open(BytesIO(stream.getvalue()))


def cropped(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    width, height = image.size
    return image.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))


COPIES = {
    "recompressed": recompressed,
    "resized": lambda image: image.resize((image.width // 3, image.height // 3), Image.Resampling.LANCZOS),
    "squashed": lambda image: image.resize((120, 90)),
    "cropped all round": lambda image: cropped(image, 0.03, 0.03, 0.97, 0.97),
    "cropped at the left": lambda image: cropped(image, 0.07, 0, 1, 1),
    "cropped in the corner": lambda image: cropped(image, 0, 0.05, 0.95, 1),
    "cropped, resized, recompressed": lambda image: recompressed(
        cropped(image, 0.05, 0.05, 0.95, 0.95).resize((200, 150))
    ),
}


def hashes(images: list[Image.Image]) -> np.ndarray:
    thumbnails = [np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for image in images]
    return perceptual_hashes(np.stack(thumbnails))


@pytest.mark.parametrize("copy", COPIES)
def test_copies_are_found_and_nothing_else(copy: str) -> None:
    originals = pictures()
    pairs = hash_pairs(hashes(originals), hashes([COPIES[copy](image) for image in originals]), threshold=8)
    same = {pair.one for pair in pairs if pair.one == pair.other}
    assert len(same) >= 0.96 * len(originals), sorted(set(range(len(originals))) - same)
    assert [pair for pair in pairs if pair.one != pair.other] == []
    assert len(pairs) == len(same)
    assert [pair.distance for pair in pairs] == sorted(pair.distance for pair in pairs)


def test_bits_of_the_whole_are_those_of_the_discrete_cosine_transform() -> None:
    thumbnails = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE), np.uint8)
    found = np.unpackbits(perceptual_hashes(thumbnails)[:, 0], axis=1)
    for one, bits in zip(thumbnails, found, strict=True):
        waves = dctn(one.astype(float))[:8, :8].reshape(-1)
        assert (bits == (waves > np.median(waves[1:]))).all()


def test_a_view_is_the_hash_of_the_crop() -> None:
    thumbnails = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE), np.uint8)
    smooth = np.asarray(Image.fromarray(thumbnails[0]).resize((640, 640), Image.Resampling.BICUBIC))
    whole = perceptual_hashes(np.asarray(Image.fromarray(smooth).resize((SIDE, SIDE), Image.Resampling.BOX))[None])[0]
    for number, ((top, bottom), (left, right)) in enumerate(VIEWS):
        part = smooth[round(640 * top) : round(640 * bottom), round(640 * left) : round(640 * right)]
        crop = perceptual_hashes(np.asarray(Image.fromarray(part).resize((SIDE, SIDE), Image.Resampling.BOX))[None])[
            0, 0
        ]
        assert np.bitwise_count(crop ^ whole[number]).sum() <= 4
    assert len(VIEWS) == 11


def test_pairs_equal_a_search_by_hand() -> None:
    rng = np.random.default_rng(0)
    one, other = (rng.integers(0, 256, (count, 11, 8), np.uint8) for count in (30, 20))
    one[:10, 3] = other[:10, 0] ^ np.uint8(1)
    other[5:9, 7] = one[15:19, 0]
    bits = np.bitwise_count(one[:, None] ^ other[None, :, :1]).sum(3).min(2)
    bits = np.minimum(bits, np.bitwise_count(one[:, None, :1] ^ other[None]).sum(3).min(2))
    expected = {(int(i), int(j)): float(bits[i, j]) for i, j in np.argwhere(bits <= 17)}
    assert {(pair.one, pair.other): pair.distance for pair in hash_pairs(one, other, threshold=17)} == expected
    assert len(expected) >= 14


def test_a_threshold_that_tells_nothing_apart_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitral.data.tools.near_duplicates.MOST_PAIRS", 100)
    same = np.zeros((11, 11, 8), np.uint8)
    with pytest.raises(ValueError, match="more than 100 pairs are within the threshold"):
        hash_pairs(same, same, threshold=8)


def test_embeddings_by_cosine() -> None:
    one = np.array([[1, 0], [0, 2], [-3, 0]], np.float32)
    other = np.array([[0.1, 5], [4, 0.01], [1, 1]], np.float32)
    pairs = embedding_pairs(one, other, threshold=0.9)
    assert [(pair.one, pair.other) for pair in pairs] == [(0, 1), (1, 0)]
    assert pairs[0].distance == pytest.approx(1 - 4 / np.hypot(4, 0.01), abs=1e-6)
    assert isinstance(pairs[0], Pair)


def test_thumbnails_of_a_source() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 100, 80, 3), np.uint8)
    source = ArraySource(title="noise", images=pixels, labels=np.array([0, 1, 0]), classes=("a", "b"))
    found = hash_images(thumbnail(source, index) for index in range(3))
    assert found.shape == (3, 11, 8)
    assert (found[1] == hashes([Image.fromarray(pixels[1])])[0]).all()


def test_plain_images_are_featureless():
    gradient = np.linspace(60, 200, 64)
    sky = (gradient[:, None] + 0.2 * gradient[None, :]).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, 2, sky.shape)
    for plain in (np.full((64, 64), 90, np.uint8), sky, (sky + noise).astype(np.uint8), np.stack([sky] * 3, axis=2)):
        assert is_featureless(plain)
    disc = sky.copy()
    rows, columns = np.ogrid[:64, :64]
    disc[(rows - 32) ** 2 + (columns - 32) ** 2 < 100] += 30
    assert not is_featureless(disc)
