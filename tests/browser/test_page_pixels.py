"""The page's pixels are those of Vitral's preprocessing."""

import random
from base64 import b64decode, b64encode
from dataclasses import asdict
from io import BytesIO
from itertools import product
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from icc_profiles import adobe_rgb, swapped
from vitral.data.images.decode import read_image
from vitral.data.images.preprocess import Preprocessing
from vitral.inspection.picture import overlay_rollout
from vitral.page.assets import bundle

pytestmark = pytest.mark.browser

RESIZE = """([spec, width, height, base64]) => {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const read = (left, top, columns, rows) => {
        const part = new Uint8Array(4 * columns * rows);
        for (let row = 0; row < rows; row++) {
            const first = 4 * ((top + row) * width + left);
            part.set(bytes.subarray(first, first + 4 * columns), 4 * row * columns);
        }
        return part;
    };
    const box = $resize.visibleBox(width, height, spec);
    const { image_size: size, channels, interpolation } = spec;
    const pixels = $resize.resize({ width, height, read }, box, size, channels, interpolation);
    return [[...pixels], [...$resize.normalise(pixels, spec)]];
}"""

DECODE = """async (base64) => {
    const image = new Image();
    image.src = URL.createObjectURL(new Blob([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))]));
    await image.decode();
    const { width, height, read } = $pixels.readable(await createImageBitmap(image));
    const letters = Array.from(read(0, 0, width, height), (byte) => String.fromCharCode(byte));
    return [width, height, btoa(letters.join(""))];
}"""

MASK = "([rollout, width, height]) => [...$overlay.maskOf(rollout, width, height)]"

SIZES = ((48, 48), (32, 48), (9, 16))
RATIOS = (1.0, 0.875, 0.9)


def random_picture(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Noise, in black and white half of the time: filters overshoot there."""
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels if rng.random() < 0.5 else pixels // 128 * 255)


@pytest.mark.parametrize("channels", [1, 3])
def test_resizing_is_pillows(browser: Any, channels: int) -> None:
    page = browser.new_page()
    page.add_script_tag(content=bundle("resize"))
    rng, choose = np.random.default_rng(0), random.Random(0)
    for resize, interpolation in product(("squash", "crop", "squash_crop"), ("bilinear", "bicubic", "lanczos")):
        for size in [(1, 1), (700, 5), (3, 400), *((choose.randint(2, 300), choose.randint(2, 300)) for _ in range(4))]:
            spec = Preprocessing(
                image_size=choose.choice(SIZES),
                channels=channels,
                resize=resize,
                crop_ratio=choose.choice(RATIOS),
                interpolation=interpolation,
                mean=tuple(rng.random(channels).tolist()),
                std=tuple((0.1 + rng.random(channels)).tolist()),
            )
            picture = random_picture(rng, *size)
            expected = spec.pixels(picture.convert("L") if channels == 1 else picture)
            sent = b64encode(picture.convert("RGBA").tobytes()).decode()
            pixels, images = page.evaluate(RESIZE, [asdict(spec), *size, sent])
            assert pixels == expected.ravel().tolist(), (spec, size)
            assert np.float32(images).tolist() == spec.normalise(torch.from_numpy(expected[None])).ravel().tolist()
    page.close()


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def files() -> dict[str, bytes]:
    """Pictures of every kind that a browser reads."""
    rng = np.random.default_rng(0)
    photo = Image.fromarray(skimage.data.chelsea()).resize((120, 90))
    noise = Image.fromarray(rng.integers(0, 256, (30, 40, 4), np.uint8))
    made = {
        "JPEG": encoded(photo, "JPEG", quality=80),
        "progressive JPEG": encoded(photo, "JPEG", progressive=True, subsampling=0),
        "grey JPEG": encoded(photo.convert("L"), "JPEG"),
        "CMYK JPEG": encoded(photo.convert("CMYK"), "JPEG"),
        "JPEG of another colour space": encoded(photo, "JPEG", icc_profile=adobe_rgb()),
        "PNG with a profile": encoded(photo, "PNG", icc_profile=swapped()),
        "PNG": encoded(noise.convert("RGB"), "PNG"),
        "palette": encoded(noise.convert("RGB").convert("P"), "PNG"),
        "transparent palette": encoded(noise.convert("RGB").convert("P"), "PNG", transparency=3),
        "transparency": encoded(noise, "PNG"),
        "grey transparency": encoded(noise.convert("LA"), "PNG"),
        "one bit": encoded(noise.convert("1"), "PNG"),
        "16 bits": encoded(Image.fromarray(rng.integers(0, 65536, (30, 40)).astype(np.uint16)), "PNG"),
        "WebP": encoded(photo, "WEBP"),
        "transparent WebP": encoded(noise, "WEBP", lossless=True),
        "GIF": encoded(noise.convert("RGB").convert("P"), "GIF"),
        "BMP": encoded(noise.convert("RGB"), "BMP"),
        "AVIF": encoded(photo, "AVIF"),
    }
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        made[f"orientation {turn}"] = encoded(photo, "JPEG", exif=exif)
    return made


def test_browsers_decode_as_vitral_does(browser: Any) -> None:
    page = browser.new_page()
    page.add_script_tag(content=bundle("pixels"))
    for name, content in files().items():
        width, height, pixels = page.evaluate(DECODE, b64encode(content).decode())
        found = np.frombuffer(b64decode(pixels), np.uint8).reshape(height, width, 4)
        expected = np.asarray(read_image(content, channels=3, name=name), int)
        assert found[..., :3].shape == expected.shape, name
        assert np.abs(found[..., :3] - expected).max() <= 1, name
        assert (found[..., 3] == 255).all(), name
    page.close()


def test_the_mask_is_that_of_inspect(browser: Any) -> None:
    page = browser.new_page()
    page.add_script_tag(content=bundle("overlay"))
    rollout = torch.rand(14, 14, generator=torch.Generator().manual_seed(0))
    expected = overlay_rollout(Image.new("RGB", (480, 320), "white"), rollout)[..., 0]
    mask = np.array(page.evaluate(MASK, [rollout.tolist(), 480, 320])).reshape(320, 480)
    difference = np.abs(255 * np.sqrt(mask / 255) - expected)
    assert difference.mean() < 3
    assert np.percentile(difference, 99) < 10  # near black, one level of the mask is many of its root
    page.close()
