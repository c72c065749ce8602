"""Parts of JPEGs, decoded no larger than needed, beside the whole image decoded and resized by Pillow."""

import os
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import skimage.data
from PIL import Image

from vitral.data.augment.config import AugmentConfig
from vitral.data.augment.crop import crop_box
from vitral.data.images.jpeg import LazyJpeg
from vitral.data.images.preprocess import Preprocessing

PREPROCESSING = Preprocessing(image_size=(96, 96), channels=3)
PHOTOGRAPHS = ("astronaut", "coffee", "cat")


def photograph(name: str, size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(getattr(skimage.data, name)()).resize(size, Image.Resampling.LANCZOS)


def encoded(image: Image.Image, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()


def cropped(data: bytes, box: tuple[float, float, float, float], interpolation: str = "bilinear") -> np.ndarray:
    jpeg = LazyJpeg.open(data)
    assert jpeg is not None
    found = jpeg.crop(box, image_size=(96, 96), interpolation=interpolation)
    assert found is not None
    return found


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_whole_pixels_of_an_unscaled_image_are_pillows(interpolation: str, progressive: bool, subsampling: int) -> None:
    """To one level, if the part is cut out before it is resized: what lies outside has no weight."""
    data = encoded(photograph("coffee", (160, 120)), progressive=progressive, subsampling=subsampling)
    box = (16 / 160, 8 / 120, 144 / 160, 112 / 120)
    with Image.open(BytesIO(data)) as image:
        filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
        expected = np.array(image.convert("RGB").crop((16, 8, 144, 112)).resize((96, 96), filters[interpolation]))
    difference = np.abs(cropped(data, box, interpolation).astype(int) - expected)
    assert difference.max() <= 1


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize("size", [(500, 375), (333, 517), (1600, 1200)])
def test_random_crops_are_near_those_of_the_whole_image(name: str, size: tuple[int, int]) -> None:
    """The bound that the documentation states: 6 of 255 levels in the mean of any crop, 4 in that of many."""
    data = encoded(photograph(name, size))
    with Image.open(BytesIO(data)) as image:
        whole = image.convert("RGB")
    augment = AugmentConfig(crop="inception", crop_area=(0.08, 1.0))
    differences = []
    for index in range(12):
        box = crop_box(augment, size, seed=0, epoch=0, index=index)
        differences.append(np.abs(cropped(data, box).astype(int) - PREPROCESSING.crop(whole, box)).mean())
    assert max(differences) < 6
    assert np.mean(differences) < 4


def decoded_sizes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Collects the height and width of each image that is decoded from here on."""
    sizes, decode = [], simplejpeg.decode_jpeg

    def seen(data: bytes, *, buffer: np.ndarray, **options: object) -> np.ndarray:
        sizes.append(buffer.shape[:2])
        return decode(data, buffer=buffer, **options)

    monkeypatch.setattr(simplejpeg, "decode_jpeg", seen)
    return sizes


def test_an_image_is_decoded_as_small_as_the_crop_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = decoded_sizes(monkeypatch)
    data = encoded(photograph("astronaut", (801, 803)))
    for side in (1.0, 0.5, 0.3, 0.24, 0.2):
        assert cropped(data, (0.0, 1 - side, side, 1.0)).shape == (96, 96, 3)
    assert sizes == [(101, 101), (201, 201), (402, 401), (402, 401), (803, 801)]


def test_rows_below_a_crop_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of one block more than needed are: colours of half the resolution are mixed with their neighbours'."""
    sizes = decoded_sizes(monkeypatch)
    picture = photograph("astronaut", (160, 640))
    for options in ({"subsampling": 2}, {"subsampling": 0}, {"progressive": True}):
        cropped(encoded(picture, **options), (0.0, 0.0, 1.0, 0.25))
    assert sizes == [(160 + 16, 160), (160 + 8, 160), (640, 160)]


@pytest.mark.parametrize("size", [(640, 480), (331, 517)])
@pytest.mark.parametrize(
    "options",
    [
        {"subsampling": 0},
        {"subsampling": 1},
        {"subsampling": 2},
        {"subsampling": 2, "restart_marker_rows": 1},
        {"subsampling": 2, "restart_marker_blocks": 7},
        {"subsampling": 2, "optimize": True},
    ],
)
def test_a_crop_has_the_pixels_of_the_whole_image(options: dict[str, int], size: tuple[int, int]) -> None:
    """Bit for bit, at every scale, as if all rows were decoded."""
    jpeg = LazyJpeg.open(encoded(photograph("coffee", size), **options))
    assert jpeg is not None
    whole = replace(jpeg, header=replace(jpeg.header, height_at=None))
    for bottom in (0.03, 0.3, 0.55, 0.8, 0.97):
        for side in (12, 40, 96):
            box = (0.2, 0.01, 0.9, bottom)
            found, expected = (
                one.crop(box, image_size=(side, side), interpolation="bilinear") for one in (jpeg, whole)
            )
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("damage", ["cut", "other marker"])
def test_damage_below_a_crop_is_noticed(damage: str) -> None:
    data = encoded(photograph("cat", (400, 400)))
    content = data[: 9 * len(data) // 10]
    jpeg = LazyJpeg.open(content if damage == "cut" else content + b"\xff\xc4" + data[-2:])
    assert jpeg is not None
    assert jpeg.crop((0.0, 0.0, 1.0, 0.4), image_size=(96, 96), interpolation="bilinear") is None


def test_the_smallest_crop_has_a_pixel() -> None:
    data = encoded(photograph("cat", (40, 30)))
    for box in ((0.999, 0.999, 1.0, 1.0), (0.0, 0.0, 0.001, 1.0)):
        assert cropped(data, box).shape == (96, 96, 3)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_only_upright_images_are_read_here(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = LazyJpeg.open(encoded(photograph("cat", (40, 30)), exif=exif))
    assert (found is not None) == (orientation == 1)


def test_other_images_are_left_to_pillow(tmp_path: Path) -> None:
    picture = photograph("cat", (40, 30))
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "start.jpg").write_bytes(encoded(picture)[:20])
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    others = (
        picture,
        buffer.getvalue(),
        encoded(picture.convert("L")),
        encoded(picture.convert("CMYK")),
        tmp_path / "text.jpg",
        tmp_path / "start.jpg",
        b"",
    )
    assert [LazyJpeg.open(other) for other in others] == [None] * len(others)
    with pytest.raises(FileNotFoundError):
        LazyJpeg.open(tmp_path / "missing.jpg")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert LazyJpeg.open(tmp_path / "pipe.jpg") is None


def test_a_turned_image_is_noticed_however_late_its_exif_data_come() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(photograph("cat", (40, 30)), exif=exif)
    segment = b"\xff\xe2\xff\xff" + bytes(0xFFFD)  # 64 KiB of another application's
    late = data[:2] + 3 * segment + data[2:]
    with Image.open(BytesIO(late)) as image:
        assert image.getexif()[0x0112] == 6
    assert LazyJpeg.open(late) is None


def test_a_bomb_is_left_to_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(photograph("cat", (40, 30)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert LazyJpeg.open(data) is None


def test_a_file_cut_short_is_left_to_pillow() -> None:
    data = encoded(photograph("cat", (400, 300)))
    jpeg = LazyJpeg.open(data[: len(data) // 2])
    assert jpeg is not None
    assert jpeg.crop((0.0, 0.0, 1.0, 1.0), image_size=(96, 96), interpolation="bilinear") is None
