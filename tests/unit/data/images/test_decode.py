"""Every form of image file against pixels known by hand."""

import errno
import gc
import os
import resource
import socket
import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pillow_heif
import pillow_jxl.JpegXLImagePlugin  # noqa: F401 - registers itself
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile

import vitral
from photographs import png_header
from vitral.data.images import formats
from vitral.data.images.decode import IMAGE_SUFFIXES, MODES, UnreadableImage, read_image, read_range
from vitral.data.images.strips import PIXELS

LISTED = "JPEG, PNG, WebP, BMP, TIFF, GIF, PPM, AVIF, JPEG 2000, HEIC or JPEG XL"
RED, WHITE = (255, 0, 0), (255, 255, 255)
ORIENTATION = 0x0112
UPRIGHT = Image.fromarray(np.array([[0, 60, 120], [180, 220, 255]], np.uint8))
"""Three pixels wide, two high, every one different: each flip and turn shows."""
STORED_AS = {
    # EXIF: where the picture's first row and first column lie in the file
    1: [[0, 60, 120], [180, 220, 255]],
    2: [[120, 60, 0], [255, 220, 180]],
    3: [[255, 220, 180], [120, 60, 0]],
    4: [[180, 220, 255], [0, 60, 120]],
    5: [[0, 180], [60, 220], [120, 255]],
    6: [[120, 255], [60, 220], [0, 180]],
    7: [[255, 120], [220, 60], [180, 0]],
    8: [[180, 0], [220, 60], [255, 120]],
}


def encoded(image: Image.Image, form: str, **options) -> bytes:
    stream = BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def photograph() -> Image.Image:
    """A smooth colour ramp that lossy formats keep to within a few levels."""
    rows, columns = np.mgrid[0:48, 0:64]
    return Image.fromarray(np.stack([columns * 4, rows * 5, 255 - columns * 4], axis=2).astype(np.uint8))


def array(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.mark.parametrize(
    ("form", "options", "bound"),
    [
        ("JPEG", {"quality": 95}, 12),
        ("PNG", {}, 0),
        ("WEBP", {"quality": 95}, 24),
        ("WEBP", {"lossless": True}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_formats(form, options, bound, channels):
    image = read_image(encoded(photograph(), form, **options), channels=channels)
    expected = photograph().convert({1: "L", 3: "RGB"}[channels])
    assert image.mode == expected.mode
    assert np.abs(array(image) - array(expected)).max() <= bound


def test_gif_gives_its_first_frame():
    first, second = Image.new("RGB", (5, 4), "red"), Image.new("RGB", (5, 4), "blue")
    image = read_image(encoded(first, "GIF", save_all=True, append_images=[second]), channels=3)
    assert image.size == (5, 4)
    assert (array(image) == RED).all()


def test_the_four_ways_to_hand_over_an_image(tmp_path):
    content = encoded(photograph(), "PNG")
    (tmp_path / "ramp.png").write_bytes(content)
    stream = BytesIO(content)
    for file in (tmp_path / "ramp.png", content, stream, photograph()):
        assert read_image(file, channels=3).tobytes() == photograph().tobytes()
    assert not stream.closed


def test_an_open_file_is_read_from_where_it_stands():
    stream = BytesIO(encoded(UPRIGHT, "PNG"))
    stream.seek(0)
    assert read_image(stream, channels=1).tobytes() == UPRIGHT.tobytes()


@pytest.mark.parametrize("channels", [0, 2, 4])
def test_channels_are_one_or_three(channels):
    with pytest.raises(ValueError, match=f"1 channel .grey. or 3 .colour., not {channels}"):
        read_image(UPRIGHT, channels=channels)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", STORED_AS)
def test_orientation(form, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = Image.fromarray(np.array(STORED_AS[orientation], np.uint8))
    image = read_image(encoded(stored, form, exif=exif), channels=1)
    assert array(image).tolist() == array(UPRIGHT).tolist()


@pytest.mark.parametrize("orientation", STORED_AS)
def test_orientation_of_a_jpeg(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = Image.fromarray(np.array(STORED_AS[orientation], np.uint8).repeat(16, 0).repeat(16, 1))
    image = read_image(encoded(stored, "JPEG", quality=95, exif=exif), channels=1)
    assert image.size == (48, 32)
    assert np.abs(array(image)[8::16, 8::16] - array(UPRIGHT)).max() <= 4


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("form", "mode"),
    [
        *(("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
        *(("PNG", mode) for mode in ("L", "RGB", "RGBA")),
        *(("TIFF", mode) for mode in ("L", "RGB", "RGBA", "CMYK")),
    ],
)
@pytest.mark.parametrize("orientation", STORED_AS)
def test_orientation_of_a_large_image(orientation, form, mode, channels, monkeypatch):
    """It is turned a few rows at a time, which leave the memory as soon as they are turned."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    noise = np.random.default_rng(0).integers(0, 256, (97, 68, 4), np.uint8)
    if mode == "RGBA":
        noise[:, :, 3] = 255
    picture = Image.fromarray(noise, "RGBA" if mode == "RGBA" else "CMYK").resize((680, 970)).convert(mode)
    content = encoded(picture, form, exif=exif)
    wanted = ImageOps.exif_transpose(Image.open(BytesIO(content))).convert("RGB").convert(MODES[channels])
    for turned, piece in ((0, PIXELS), (0, 4096), (2**22, PIXELS)):
        monkeypatch.setattr("vitral.data.images.loading.TURNED", turned)
        monkeypatch.setattr("vitral.data.images.strips.PIXELS", piece)
        assert read_image(content, channels=channels).tobytes() == wanted.tobytes()


def test_orientation_is_applied_once():
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    content = encoded(Image.fromarray(np.array(STORED_AS[6], np.uint8)), "PNG", exif=exif)
    once = read_image(content, channels=1)
    assert read_image(once, channels=1).tobytes() == once.tobytes()
    opened = Image.open(BytesIO(content))
    assert read_image(opened, channels=1).tobytes() == once.tobytes()
    assert read_image(opened, channels=1).tobytes() == once.tobytes()


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0", b"Exif\0\0" + b"\xff" * 40])
def test_damaged_metadata_does_not_hide_the_picture(exif):
    image = read_image(encoded(photograph(), "JPEG", exif=exif), channels=3)
    assert image.size == (64, 48)
    assert image.tobytes() == read_image(encoded(photograph(), "JPEG"), channels=3).tobytes()


@pytest.mark.parametrize("mode", ["I;16", "I"])
def test_16_bit_grey_keeps_its_order(mode):
    ramp = np.arange(0, 65536, 16, np.uint16).reshape(64, 64)
    deep = Image.fromarray(ramp if mode == "I;16" else ramp.astype(np.int32))
    assert deep.mode == mode
    # a PNG knows 16 bits only; a TIFF both
    for file in (deep, encoded(deep, "TIFF"), *([encoded(deep, "PNG")] if mode == "I;16" else [])):
        grey = array(read_image(file, channels=1)).ravel()
        assert (np.diff(grey) >= 0).all()
        assert len(np.unique(grey)) == 256
        assert grey.tolist() == np.rint(ramp.ravel() / 257).astype(int).tolist()


def test_16_bit_grey_in_either_byte_order():
    values = np.array([[0, 257, 65535]])
    for order, kind in (("I;16", "<u2"), ("I;16B", ">u2")):
        deep = Image.frombytes(order, (3, 1), values.astype(kind).tobytes())
        assert array(read_image(deep, channels=1)).tolist() == [[0, 1, 255]]
        assert array(read_image(deep, channels=3)).tolist() == [[[0] * 3, [1] * 3, [255] * 3]]


@pytest.mark.parametrize(
    ("values", "grey"),
    [
        (np.float32([0, 0.5, 1]), [0, 128, 255]),
        (np.float32([0, 0, 0]), [0, 0, 0]),
        (np.float32([0, 100, 255]), [0, 100, 255]),
        (np.float32([-10, 0, 10]), [0, 128, 255]),
        (np.float32([0, 500, 1000]), [0, 128, 255]),
        (np.float32([7000, 7000, 7000]), [0, 0, 0]),
        (np.int32([0, 1_000_000, 2_000_000]), [0, 128, 255]),
        (np.int32([-2_000_000_000, 0, 2_000_000_000]), [0, 128, 255]),
    ],
)
def test_deep_values_are_scaled_not_cut(values, grey):
    image = Image.fromarray(values[None])
    assert array(read_image(image, channels=1)).tolist() == [grey]
    assert array(read_image(encoded(image, "TIFF"), channels=1)).tolist() == [grey]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers(value):
    image = Image.fromarray(np.float32([[0, value]]))
    with pytest.raises(UnreadableImage, match="cannot be read as an image: some of its values are not finite"):
        read_image(image, channels=1)


def test_transparent_is_white_and_half_is_half():
    image = Image.new("RGBA", (3, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    image.putpixel((2, 0), (0, 0, 0, 128))
    for form in ("PNG", "TIFF"):
        assert array(read_image(encoded(image, form), channels=3)).tolist() == [[[*RED], [*WHITE], [127] * 3]]
    lossless = array(read_image(encoded(image, "WEBP", lossless=True, exact=True), channels=3))
    assert lossless.tolist() == [[[*RED], [*WHITE], [127] * 3]]


@pytest.mark.parametrize("mode", ["LA", "PA", "RGBA", "RGBa"])
def test_modes_with_alpha(mode):
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    image = image.convert(mode)
    assert array(read_image(image, channels=1)).tolist() == [[0, 255]]
    assert array(read_image(image, channels=3)).tolist() == [[[0] * 3, [255] * 3]]


@pytest.mark.parametrize("transparency", [1, b"\xff\x00"])
@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_palette_with_transparency(form, transparency):
    if form == "GIF":
        transparency = 1  # the format knows a single transparent colour
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    content = encoded(image, form, transparency=transparency)
    assert array(read_image(content, channels=3)).tolist() == [[[*RED], [*WHITE]]]


def test_palette_without_transparency():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    assert array(read_image(encoded(image, "PNG"), channels=3)).tolist() == [[[*RED], [0, 0, 255]]]


@pytest.mark.parametrize(("mode", "value", "key"), [("L", 9, 9), ("RGB", (9, 9, 9), (9, 9, 9)), ("I;16", 900, 900)])
def test_a_colour_declared_transparent_is_white(mode, value, key):
    image = Image.new(mode, (2, 1))
    image.putpixel((1, 0), value)
    assert array(read_image(encoded(image, "PNG", transparency=key), channels=1)).tolist() == [[0, 255]]


def test_cmyk():
    inks = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert (array(read_image(encoded(inks, "TIFF"), channels=3)) == RED).all()
    assert np.abs(array(read_image(encoded(inks, "JPEG", quality=95), channels=3)) - RED).max() <= 2
    grey = array(read_image(encoded(inks, "TIFF"), channels=1))
    assert (grey == 76).all()  # 0.299 * 255


def test_ycck():
    """CMYK whose first three inks are stored as YCbCr: made by hand, since Pillow only reads it."""
    y, cb, cr = Image.new("RGB", (1, 1), (0, 255, 255)).convert("YCbCr").getpixel((0, 0))
    content = encoded(Image.new("CMYK", (16, 16), (255 - y, 255 - cb, 255 - cr, 0)), "JPEG", quality=95)
    marker = content.index(b"Adobe")
    transform = marker + 11
    assert content[transform] == 0
    content = content[:transform] + b"\x02" + content[transform + 1 :]
    assert np.abs(array(read_image(content, channels=3)) - RED).max() <= 4


def test_one_bit():
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    for form in ("PNG", "BMP", "TIFF"):
        assert array(read_image(encoded(image, form), channels=1)).tolist() == [[0, 255]]
        assert array(read_image(encoded(image, form), channels=3)).tolist() == [[[0] * 3, [255] * 3]]


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "LAB", "RGBX"])
def test_other_colour_spaces(mode):
    image = Image.new("RGB", (1, 1), RED).convert(mode)
    assert image.mode == mode
    red, green, blue = array(read_image(image, channels=3))[0, 0]
    assert red >= 250
    assert max(green, blue) <= 40
    grey = array(read_image(image, channels=1)).item()
    assert grey == Image.new("RGB", (1, 1), (int(red), int(green), int(blue))).convert("L").getpixel((0, 0))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_pil_image_stays_as_it_is(mode):
    image = photograph().convert(mode)
    image.info["comment"] = "a ramp"
    result = read_image(image, channels={"L": 1, "RGB": 3}[mode])
    result.putpixel((0, 0), 77)
    assert image.tobytes() == photograph().convert(mode).tobytes()
    assert image.info == {"comment": "a ramp"}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("fraction", [0.02, 0.5, 0.9])
def test_truncated(form, fraction, tmp_path):
    rng = np.random.default_rng(0)
    content = encoded(Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)), form)
    file = tmp_path / "cut.dat"
    file.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(UnreadableImage) as caught:
        read_image(file, channels=3)
    assert str(caught.value).startswith(f"{file} cannot be read as an image: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"a cat", f"it is not a {LISTED} file, or its header is damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", f"it is not a {LISTED} file"),
    ],
)
def test_what_is_no_image(content, reason, tmp_path):
    file = tmp_path / "photo.jpg"
    file.write_bytes(content)
    for given_as, name in ((file, str(file)), (content, "the image"), (BytesIO(content), "the image")):
        with pytest.raises(UnreadableImage) as caught:
            read_image(given_as, channels=3)
        assert str(caught.value).startswith(f"{name} cannot be read as an image: {reason}")
    with pytest.raises(UnreadableImage, match=r"^upload 3 cannot"):
        read_image(content, channels=3, name="upload 3")


def test_paths_that_are_no_files(tmp_path):
    with pytest.raises(UnreadableImage, match=r"gone\.jpg cannot be read as an image: there is no such file"):
        read_image(tmp_path / "gone.jpg", channels=3)
    with pytest.raises(UnreadableImage, match="cannot be read as an image: is a directory"):
        read_image(tmp_path, channels=3)


def test_an_image_without_pixels():
    with pytest.raises(UnreadableImage, match="the image cannot be read as an image: it has no pixels"):
        read_image(Image.new("RGB", (0, 3)), channels=3)


@pytest.mark.parametrize("size", [(12_000, 12_000), (60_000, 60_000)])
@pytest.mark.parametrize("action", ["error", "ignore"])
def test_bomb(size, action, tmp_path):
    file = tmp_path / "bomb.png"
    file.write_bytes(png_header(*size))
    with warnings.catch_warnings():
        warnings.simplefilter(action, Image.DecompressionBombWarning)
        with pytest.raises(UnreadableImage, match=r"bomb\.png cannot be read as an image: it.* pixels .*allowed"):
            read_image(file, channels=3)


def test_a_large_image_is_refused_without_a_warning(tmp_path, recwarn):
    warnings.simplefilter("always")
    with pytest.raises(UnreadableImage, match="pixels are more than the"):
        read_image(png_header(12_000, 12_000), channels=3)
    assert not recwarn.list


@pytest.mark.parametrize("name", ["pipe.png", "socket.png", "device.png"])
def test_what_is_no_ordinary_file_does_not_hang(name, tmp_path):
    file = tmp_path / name
    if name == "pipe.png":
        os.mkfifo(file)
    elif name == "socket.png":
        file.symlink_to(tmp_path / "s")
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(str(tmp_path / "s"))
    else:
        file.symlink_to("/dev/zero")
    with pytest.raises(UnreadableImage, match=f"{name} cannot be read as an image: it is not a regular file"):
        read_image(file, channels=3)


class FailingStream(BytesIO):
    """A file whose bytes cannot be read any more, once its header is."""

    def __init__(self, content: bytes, error: Exception) -> None:
        super().__init__(content)
        self.error = error

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() > 50:
            raise self.error
        return super().read(size)


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "BMP"])
def test_errors_of_the_machine_are_no_damage(form, code):
    stream = FailingStream(encoded(photograph(), form), OSError(code, os.strerror(code)))
    with pytest.raises(OSError, match=os.strerror(code)) as caught:
        read_image(stream, channels=3, name="photo 3")
    assert not isinstance(caught.value, UnreadableImage)
    assert (caught.value.errno, caught.value.filename) == (code, "photo 3")


def test_too_little_memory_is_no_damage():
    with pytest.raises(MemoryError):
        read_image(FailingStream(encoded(photograph(), "PNG"), MemoryError()), channels=3)


def test_too_many_open_files_is_no_damage(tmp_path):
    file = tmp_path / "photo.png"
    file.write_bytes(encoded(photograph(), "PNG"))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files") as caught:
            read_image(file, channels=3)
        with pytest.raises(OSError, match="Too many open files"):
            read_range(file, 0, 10, name="photo.png[0]")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert caught.value.filename == str(file)


def test_what_the_decoder_says_of_the_bytes_is_damage():
    """Errors without a number of the operating system, and a seek to where there is nothing."""
    for error in (OSError("broken data stream"), OSError(errno.EINVAL, "Invalid argument"), ValueError("no")):
        with pytest.raises(UnreadableImage, match="the image cannot be read as an image"):
            read_image(FailingStream(encoded(photograph(), "BMP"), error), channels=3)


def test_a_range_of_a_file(tmp_path):
    file = tmp_path / "shard"
    file.write_bytes(b"0123456789")
    assert read_range(file, 3, 4, name="shard[1]") == b"3456"
    with pytest.raises(UnreadableImage, match=r"^shard\[1\] cannot be read as an image: .*has become shorter"):
        read_range(file, 8, 4, name="shard[1]")
    with pytest.raises(UnreadableImage, match=r"^shard\[1\] cannot be read as an image: there is no such file"):
        read_range(tmp_path / "gone", 8, 4, name="shard[1]")


def outcome(file: Path | bytes) -> Image.Image | str:
    """The image, or the sentence that says why there is none."""
    try:
        return read_image(file, channels=3)
    except UnreadableImage as error:
        return str(error)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("fraction", [0, 0.1, 0.5, 1])
def test_no_file_stays_open(form, fraction, tmp_path):
    content = encoded(photograph(), form)
    file = tmp_path / "photo"
    file.write_bytes(content[: int(fraction * len(content))])
    gc.collect()  # files of earlier tests, which it would close in between
    before = len(list(Path("/proc/self/fd").iterdir()))
    found = [outcome(file) for _ in range(3)]
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert all(isinstance(result, Image.Image if fraction == 1 else str) for result in found)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_pixels_of_a_damaged_image_are_freed_at_once(form: str) -> None:
    content = encoded(photograph(), form)
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(UnreadableImage) as caught:
            read_image(content[: len(content) // 2], channels=3)
        assert caught.value.__cause__ is not None
        assert [thing for thing in gc.get_objects() if isinstance(thing, ImageFile)] == []
    finally:
        gc.enable()


SMALL_FILES = {
    form: encoded(photograph().resize((12, 9)), form) for form in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
}


@given(st.sampled_from(sorted(SMALL_FILES)), st.data())
def test_damaged_files_give_an_image_or_one_sentence(form, data):
    content = bytearray(SMALL_FILES[form])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(1, len(content))) :]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = outcome(bytes(content))
    if isinstance(result, str):
        assert result.startswith("the image cannot be read as an image: ")
    else:
        assert result.mode == "RGB"
        assert min(result.size) > 0


@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 3]), st.integers(0, 2**32 - 1))
def test_reading_the_result_again_changes_nothing(width, height, channels, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 4), np.uint8)
    once = read_image(Image.fromarray(pixels), channels=channels)
    again = read_image(once, channels=channels)
    assert (once.mode, once.size, once.tobytes()) == (again.mode, again.size, again.tobytes())


def test_suffixes_cover_the_formats():
    pillow_heif.register_heif_opener()
    read = {"JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM", "AVIF", "JPEG2000", "HEIF", "JXL"}
    known = {suffix for suffix, form in Image.registered_extensions().items() if form in read}
    assert known - {".pfm"} <= IMAGE_SUFFIXES <= known


def test_a_jpeg_with_too_many_pixels_is_decoded_at_a_fraction_of_its_size(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    whole = encoded(Image.new("RGB", (120, 80), (200, 30, 30)), "JPEG")
    image = read_image(whole, channels=3)
    assert image.size == (60, 40)
    assert np.allclose(np.asarray(image)[5, 5], (200, 30, 30), atol=4)


def test_the_environment_allows_more_pixels(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    content = encoded(Image.new("L", (40, 30)), "PNG")
    with pytest.raises(UnreadableImage, match="40x30 pixels are more than the 1000 allowed: VITRAL_MAX_PIXELS=1200"):
        read_image(content, channels=1)
    monkeypatch.setenv("VITRAL_MAX_PIXELS", "1200")
    assert read_image(content, channels=1).size == (40, 30)
    monkeypatch.setenv("VITRAL_MAX_PIXELS", "many")
    with pytest.raises(UnreadableImage, match="VITRAL_MAX_PIXELS must be a number of pixels"):
        read_image(content, channels=1)


def test_a_jpeg_of_several_images_is_its_first(monkeypatch, caplog):
    """As phones and stereo cameras write them; one that is too large is decoded at a fraction of its size as well."""
    other = Image.new("RGB", (16, 16))
    content = encoded(photograph(), "MPO", save_all=True, append_images=[other], quality=95)
    with Image.open(BytesIO(content)) as image:
        assert image.format == "MPO"
    found = read_image(content, channels=3)
    assert np.abs(array(found) - array(photograph())).max() <= 12
    assert not caplog.records
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert read_image(content, channels=3).size == (32, 24)


def test_the_old_name_of_the_exception_is_kept():
    assert vitral.BrokenImage is UnreadableImage


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\0\0\0\x18ftypcrx \0\0\0\0", "a RAW photograph"),
        (b"II*\0\x10\0\0\0CR\x02\0", "a RAW photograph"),
        (b"%PDF-1.7", "a PDF document"),
        (b'\n<svg xmlns="http://www.w3.org/2000/svg">', "an SVG drawing"),
        (b"<?xml version='1.0'?>\n" + b"<!-- a tool -->" * 50 + b"<svg>", "an SVG drawing"),
        (bytes(128) + b"DICM", "a DICOM file"),
        (b"\xff\xd8\xff\xc1\0\x0b\x0c\0\x10\0\x10\x01\x01\x11\0", "a JPEG of 12 bits"),
        (b"\xff\xd8\xff\xf7\0\x0b\x08\0\x10\0\x10\x01\x01\x11\0", "a JPEG-LS image"),
    ],
)
def test_files_of_other_formats_are_named(head, name):
    with pytest.raises(UnreadableImage, match=f"it is {name}, which Vitral does not read: save it as JPEG or PNG"):
        read_image(head + bytes(300), channels=3)


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\0\0\0\x18ftypisom\0\0\0\0", "a video, which Vitral does not read: save its frames"),
        (b"<!DOCTYPE html><html>", "a web page, which Vitral does not read: download the image"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer, which Vitral does not read: fetch"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC photograph whose header is damaged or truncated"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "an AVIF image whose header is damaged or truncated"),
    ],
)
def test_the_fix_is_that_of_the_file(head, name):
    with pytest.raises(UnreadableImage, match=f"it is {name}"):
        read_image(head + bytes(300), channels=3)


@pytest.mark.parametrize(("form", "name"), [("HEIF", "a HEIC photograph"), ("JXL", "a JPEG XL image")])
def test_a_format_whose_package_is_missing_names_the_extra(form, name, monkeypatch):
    pillow_heif.register_heif_opener()
    content = encoded(photograph(), form)
    assert read_image(content, channels=3).size == (64, 48)
    monkeypatch.setattr(formats, "_installed", lambda: tuple(set(formats.SUFFIXES) - {form}))
    with pytest.raises(UnreadableImage, match=rf"it is {name}: pip install 'vitral\[images\]' reads it"):
        read_image(content, channels=3)


@pytest.mark.parametrize(("width", "height", "lines"), [(1, 80_000_000, "row"), (80_000_000, 1, "column")])
def test_short_rows_and_columns_count_as_what_they_take_in_memory(width: int, height: int, lines: str) -> None:
    """PNGs of 70 bytes that claim 80 million rows or columns of one pixel took 2.5 and 1.2 GB."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(20))), (b"IEND", b""))
    file = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    with pytest.raises(UnreadableImage, match=f"{width}x{height} pixels, counted as 16 a {lines}, are more than"):
        read_image(file, channels=3)
