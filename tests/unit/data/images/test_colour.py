"""Colour profiles: applied where they change colours, in every format and path, and never fatal."""

import logging
from io import BytesIO
from typing import Any

import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import Image

import icc_profiles
from picture_files import png_chunk, png_file
from vitral.data.images.colour import profile_name
from vitral.data.images.decode import read_image
from vitral.data.images.jpeg import LazyJpeg

pillow_heif.register_heif_opener()

PIXELS = np.full((32, 64, 3), (200, 60, 30), np.uint8)
SWAPPED = (60, 200, 30)


pytestmark = pytest.mark.usefixtures("fresh_notes")


def encoded(pixels: np.ndarray | Image.Image, form: str, **options: Any) -> bytes:
    stream = BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(stream, form, **options)
    return stream.getvalue()


def in_jpeg2000(pixels: np.ndarray, profile: bytes) -> bytes:
    """Pillow writes none, so the colour box is replaced."""
    content = encoded(pixels, "JPEG2000")
    at = content.index(b"colr") - 4
    size, header = int.from_bytes(content[at : at + 4]), content.index(b"jp2h") - 4
    box = (len(profile) + 11).to_bytes(4) + b"colr\2\0\0" + profile
    grown = (int.from_bytes(content[header : header + 4]) - size + len(box)).to_bytes(4)
    return content[:header] + grown + content[header + 4 : at] + box + content[at + size :]


def tiff16(pixels: np.ndarray, profile: bytes) -> bytes:
    stream = BytesIO()
    planes = np.moveaxis(pixels, 2, 0).astype(np.uint16) * 257
    tifffile.imwrite(stream, planes, photometric="rgb", planarconfig="separate", iccprofile=profile)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("AVIF", {"quality": 95}),
        ("HEIF", {"quality": 95}),
    ],
)
def test_a_profile_is_applied(form: str, options: dict[str, Any]) -> None:
    content = encoded(PIXELS, form, icc_profile=icc_profiles.swapped(), **options)
    assert np.abs(np.asarray(read_image(content, channels=3))[5, 5].astype(int) - SWAPPED).max() <= 8


def test_a_profile_in_files_that_pillow_does_not_read_whole() -> None:
    for content in (in_jpeg2000(PIXELS, icc_profiles.swapped()), tiff16(PIXELS, icc_profiles.swapped())):
        assert np.abs(np.asarray(read_image(content, channels=3))[5, 5].astype(int) - SWAPPED).max() <= 2


def test_training_applies_it_to_the_crop() -> None:
    content = encoded(PIXELS, "JPEG", quality=95, icc_profile=icc_profiles.swapped())
    jpeg = LazyJpeg.open(content)
    assert jpeg is not None
    crop = jpeg.crop((0.0, 0.0, 1.0, 1.0), image_size=(32, 64), interpolation="bilinear")
    assert crop is not None
    assert np.abs(crop.astype(int) - np.asarray(read_image(content, channels=3))).max() <= 1


def test_a_profile_in_several_segments() -> None:
    """A segment has at most 64 KiB."""
    padded = icc_profiles.swapped()
    padded = (len(padded) + 100_000).to_bytes(4) + padded[4:] + bytes(100_000)
    content = encoded(PIXELS, "JPEG", quality=95, icc_profile=padded)
    jpeg = LazyJpeg.open(content)
    assert jpeg is not None
    assert jpeg.profile == padded
    assert np.abs(np.asarray(read_image(content, channels=3))[5, 5].astype(int) - SWAPPED).max() <= 8


@pytest.mark.parametrize("mode", ["P", "RGBA", "PA"])
def test_alpha_and_palettes(mode: str) -> None:
    image = Image.fromarray(PIXELS).convert("RGBA")
    image.putpixel((3, 3), (0, 0, 0, 0))
    form = image.convert("RGB").quantize(4) if mode == "P" else image.convert(mode)
    if mode == "PA":
        form.info["icc_profile"] = icc_profiles.swapped()
        found = read_image(form, channels=3)
    else:
        found = read_image(encoded(form, "PNG", icc_profile=icc_profiles.swapped()), channels=3)
    if mode != "P":
        assert found.getpixel((3, 3)) == (255, 255, 255)
    assert np.abs(np.asarray(found)[5, 5].astype(int) - SWAPPED).max() <= 3


def test_srgb_under_any_name_changes_nothing() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    content = encoded(noise, "PNG", icc_profile=icc_profiles.srgb())
    assert np.array_equal(np.asarray(read_image(content, channels=3)), noise)


def test_adobe_rgb_is_more_saturated() -> None:
    """To (219, 0, 0): a colour outside sRGB is clipped; the neutral axis stays."""
    content = encoded(np.uint8([[[188, 0, 0], [128, 128, 128]]]), "PNG", icc_profile=icc_profiles.adobe_rgb())
    red, grey = np.asarray(read_image(content, channels=3))[0].astype(int)
    assert abs(red[0] - 219) <= 2
    assert np.abs(grey - 128).max() <= 2


def test_grey() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (2, 1))
    light = ramp / 255
    expected = 255 * np.where(light < 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    linear = encoded(ramp, "PNG", icc_profile=icc_profiles.linear_grey())
    for channels in (1, 3):
        found = np.asarray(read_image(linear, channels=channels)).reshape(2, 256, -1)
        assert np.abs(found[:, :, 0] - expected).max() <= 2
    # many programs give grey files a profile of colours
    for profile in (icc_profiles.srgb(), icc_profiles.swapped()):
        found = np.asarray(read_image(encoded(ramp, "PNG", icc_profile=profile), channels=1))
        assert np.abs(found.astype(int) - ramp).max() <= 1


def test_grey_with_alpha() -> None:
    image = Image.fromarray(np.full((4, 4, 2), (55, 255), np.uint8))
    image.putpixel((0, 0), (55, 0))
    found = read_image(encoded(image, "PNG", icc_profile=icc_profiles.linear_grey()), channels=1)
    assert found.getpixel((0, 0)) == 255
    assert abs(found.getpixel((2, 2)) - 128) <= 2


@pytest.mark.parametrize("form", ["TIFF", "JPEG"])
def test_inks(form: str) -> None:
    """The profile shows black ink as L* = 50, and no other ink."""
    inks = Image.new("CMYK", (16, 16), (255, 0, 0, 255))
    found = read_image(encoded(inks, form, icc_profile=icc_profiles.cmyk()), channels=3)
    assert np.abs(np.asarray(found)[5, 5].astype(int) - 119).max() <= 3


@pytest.mark.parametrize("profile", [b"nonsense", icc_profiles.swapped()[:200], icc_profiles.swapped()[:130]])
def test_a_damaged_profile_is_ignored_and_noted_once(
    profile: bytes, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    content = encoded(PIXELS, "PNG", icc_profile=profile)
    with caplog.at_level(logging.WARNING, logger="vitral"):
        for name in ("a.png", "b.png"):
            assert np.array_equal(np.asarray(read_image(content, channels=3, name=name)), PIXELS)
    assert len(caplog.records) == 1
    assert "a.png" in caplog.text
    assert "colour profile is damaged" in caplog.text
    assert capfd.readouterr() == ("", "")


def test_a_profile_of_other_pixels_is_ignored_and_noted_once(caplog: pytest.LogCaptureFixture) -> None:
    for profile in (icc_profiles.cmyk(), icc_profiles.linear_grey()):
        content = encoded(PIXELS, "PNG", icc_profile=profile)
        assert np.array_equal(np.asarray(read_image(content, channels=3)), PIXELS)
    assert len(caplog.records) == 1
    assert "another colour space" in caplog.text


def test_names() -> None:
    assert profile_name(icc_profiles.adobe_rgb()) == "Adobe RGB (1998)"
    assert profile_name(b"nonsense") == "damaged"


def gamma_png(rows: list[bytes], kind: int, *chunks: bytes, gamma: int = 100_000) -> bytes:
    note = png_chunk(b"gAMA", gamma.to_bytes(4))
    return png_file(rows, 2, depth=8, kind=kind, chunks=note + b"".join(chunks))


@pytest.mark.parametrize(("kind", "pixel"), [(0, [55]), (2, [55, 55, 55]), (4, [55, 255]), (6, [55, 55, 55, 255])])
def test_linear_light_in_a_png(kind: int, pixel: list[int]) -> None:
    found = np.asarray(read_image(gamma_png([bytes(pixel * 2)], kind), channels=3))
    assert np.abs(found.astype(int) - 128).max() <= 1


def test_gamma_that_changes_nothing() -> None:
    rows = [bytes([55, 200])]
    plain = [[55, 200]]
    assert np.asarray(read_image(gamma_png(rows, 0, gamma=45_455), channels=1)).tolist() == plain
    assert np.asarray(read_image(gamma_png(rows, 0, png_chunk(b"sRGB", b"\0")), channels=1)).tolist() == plain


def test_alpha_is_not_light() -> None:
    found = read_image(gamma_png([bytes([0, 0, 0, 55, 0, 0, 0, 255])], 6), channels=1)
    assert found.getpixel((0, 0)) == 200
