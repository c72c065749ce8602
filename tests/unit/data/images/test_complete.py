"""Files that end well, but hold too few pixels."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from picture_files import png_chunk, png_file
from vitral.data.images.decode import UnreadableImage, read_image
from vitral.data.images.jpeg import LazyJpeg
from vitral.data.images.jpeg_header import missing_scans
from vitral.data.images.masks import largest_class

WIDTH, HEIGHT = 96, 64
PIXELS = np.random.default_rng(0).integers(1, 255, (8, 12, 3)).astype(np.uint8)
PICTURE = Image.fromarray(PIXELS).resize((WIDTH, HEIGHT))

KINDS = {
    # depth, colour type, bytes of a row, chunks
    "grey": (8, 0, WIDTH, b""),
    "1 bit": (1, 0, WIDTH // 8, b""),
    "16 bits": (16, 0, 2 * WIDTH, b""),
    "colour": (8, 2, 3 * WIDTH, b""),
    "16-bit colour": (16, 2, 6 * WIDTH, b""),
    "12-bit colour": (16, 2, 6 * WIDTH, png_chunk(b"sBIT", bytes((12, 12, 12)))),
    "transparent": (16, 2, 6 * WIDTH, png_chunk(b"tRNS", bytes((0, 1) * 3))),
    "palette": (8, 3, WIDTH, png_chunk(b"PLTE", bytes(768))),
    "alpha": (8, 6, 4 * WIDTH, b""),
}


def short_png(kind: str, rows: int) -> bytes:
    """A PNG whose header promises more rows than it has."""
    depth, colour, size, chunks = KINDS[kind]
    content = png_file([b"\7" * size] * rows, WIDTH, depth=depth, kind=colour, chunks=chunks)
    header = content[12:20] + HEIGHT.to_bytes(4) + content[24:29]
    return content[:8] + png_chunk(header[:4], header[4:]) + content[33:]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 2, HEIGHT // 2, HEIGHT - 1])
def test_a_png_of_too_few_rows(kind: str, rows: int) -> None:
    with pytest.raises(UnreadableImage, match="damaged or truncated"):
        read_image(short_png(kind, rows), channels=3)


@pytest.mark.parametrize("kind", KINDS)
def test_whole_black_pngs(kind: str) -> None:
    depth, colour, size, chunks = KINDS[kind]
    content = png_file([bytes(size)] * HEIGHT, WIDTH, depth=depth, kind=colour, chunks=chunks)
    assert read_image(content, channels=3).size == (WIDTH, HEIGHT)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_of_too_few_pixels(fraction: float, mode: str) -> None:
    stream = BytesIO()
    PICTURE.convert(mode).save(stream, "JPEG", quality=95)
    content = stream.getvalue()
    start = content.index(b"\xff\xda") + 14
    part = content[: start + round(fraction * (len(content) - start))]
    with pytest.raises(UnreadableImage, match="damaged or truncated"):
        read_image(part + b"\xff\xd9", channels=3)


@pytest.mark.parametrize(("mode", "colour"), [("RGB", (128,) * 3), ("CMYK", (127,) * 4)])
def test_whole_grey_jpegs(mode: str, colour: tuple[int, ...]) -> None:
    stream = BytesIO()
    Image.new(mode, (WIDTH, HEIGHT), colour).save(stream, "JPEG")
    assert read_image(stream.getvalue(), channels=3).size == (WIDTH, HEIGHT)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "JPEG2000", "AVIF", "PPM"])
def test_cut_files(form: str) -> None:
    """At ten places: refused, or what is missing changes no pixel."""
    stream = BytesIO()
    PICTURE.save(stream, form, **({"compression": "tiff_lzw"} if form == "TIFF" else {}))
    content = stream.getvalue()
    whole, refused = np.asarray(read_image(content, channels=3)), 0
    for tenth in range(10):
        try:
            image = read_image(content[: len(content) * (tenth + 1) // 11], channels=3)
        except UnreadableImage:
            refused += 1
        else:
            assert np.array_equal(np.asarray(image), whole)
    assert refused >= 9


def test_a_mask_of_too_few_rows(tmp_path: Path) -> None:
    file = tmp_path / "mask.png"
    file.write_bytes(short_png("palette", 1))
    with pytest.raises(UnreadableImage, match="damaged or truncated"):
        largest_class(file)


@pytest.mark.parametrize("fraction", [0.4, 0.7, 0.9])
def test_a_png_with_zeros_at_its_end(fraction: float) -> None:
    """As a download that was cut leaves it: Pillow does not compare the checksum of the last chunk that it reads."""
    stream = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(stream, "PNG")
    content = stream.getvalue()
    cut = int(len(content) * fraction)
    with pytest.raises(UnreadableImage, match="damaged"):
        read_image(content[:cut] + bytes(len(content) - cut), channels=3)


NOISE = Image.fromarray(np.random.default_rng(1).integers(0, 256, (160, 240, 3), np.uint8))


def progressive(**options: object) -> bytes:
    stream = BytesIO()
    NOISE.save(stream, "JPEG", progressive=True, **options)
    return stream.getvalue()


def scans(content: bytes) -> list[int]:
    """Where each scan begins."""
    return [at for at in range(len(content)) if content.startswith(b"\xff\xda", at)]


@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.9, 0.99])
def test_a_progressive_jpeg_that_is_cut(fraction: float) -> None:
    content = progressive()
    part = content[: int(len(content) * fraction)]
    with pytest.raises(UnreadableImage, match="truncated"):
        read_image(part, channels=3)
    jpeg = LazyJpeg.open(part)
    assert jpeg is None or jpeg.crop((0.0, 0.0, 1.0, 1.0), image_size=(32, 32), interpolation="bilinear") is None


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"exif": b"Exif\0\0" + bytes(64)}])
def test_missing_scans(options: dict[str, object]) -> None:
    content = progressive(**options)
    starts = scans(content)
    assert missing_scans(content) == ""
    assert {missing_scans(content[:start] + b"\xff\xd9") for start in starts[1:]} == {"detail"}
    assert missing_scans(content + content[: starts[1]]) == ""  # what follows is another image


@pytest.mark.usefixtures("fresh_notes")
@pytest.mark.parametrize("training", [False, True])
def test_missing_detail_is_noted(training: bool, caplog: pytest.LogCaptureFixture) -> None:
    content = progressive()
    content = content[: scans(content)[3]] + b"\xff\xd9"
    if training:
        jpeg = LazyJpeg.open(content, name="a.jpg")
        assert jpeg is not None
        jpeg.crop((0.0, 0.0, 1.0, 1.0), image_size=(32, 32), interpolation="bilinear")
    else:
        read_image(content, channels=3, name="a.jpg")
    assert "a.jpg: its last scans are missing" in caplog.text


def test_a_missing_band() -> None:
    """A file of one scan for each band, of which the second and third are missing, looks grey."""
    stream = BytesIO()
    NOISE.convert("L").save(stream, "JPEG")
    content = stream.getvalue()
    frame = content.index(b"\xff\xc0")
    header = content[frame + 4 : frame + 9] + b"\3" + b"".join(bytes((band, 17, 0)) for band in (1, 2, 3))
    length = (len(header) + 2).to_bytes(2)
    content = content[: frame + 2] + length + header + content[frame + 2 + 11 :]
    assert missing_scans(content) == "band"
    with pytest.raises(UnreadableImage, match="its pixels end early"):
        read_image(content, channels=3)


@pytest.mark.parametrize("form", ["HEIF", "AVIF"])
@pytest.mark.parametrize("hole", [(0.4, 0.6), (0.67, 1), (0.9, 1)])
def test_a_lost_part(form: str, hole: tuple[float, float]) -> None:
    pillow_heif.register_heif_opener()
    stream = BytesIO()
    NOISE.save(stream, form, quality=90)
    content = stream.getvalue()
    assert read_image(content, channels=3).size == NOISE.size
    first, last = (int(len(content) * fraction) for fraction in hole)
    with pytest.raises(UnreadableImage, match="damaged"):
        read_image(content[:first] + bytes(last - first) + content[last:], channels=3)
