"""TIFF files: the values that their tags mean, or a refusal that says what the file holds."""

import struct
import sys
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from vitral.data.images.decode import UnreadableImage, read_image

GREY = np.tile(np.linspace(0, 255, 32).round().astype(np.uint8), (4, 1))
"""From black to white."""
MAKE = (271, "s", 5, "SONY", True)
BANDS = {"photometric": "minisblack", "planarconfig": "contig"}
COLOUR = np.stack([GREY, GREY[:, ::-1], np.full_like(GREY, 40)], axis=2)


def encoded(values: np.ndarray, **options: Any) -> bytes:
    stream = BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


def read(content: bytes) -> np.ndarray:
    return np.asarray(read_image(content, channels=3))


@pytest.mark.parametrize(
    ("values", "options"),
    [
        pytest.param(GREY, {}, id="8 bits"),
        pytest.param(255 - GREY, {"photometric": "miniswhite"}, id="8 bits, white is zero"),
        pytest.param(GREY.astype(np.uint16) * 257, {}, id="16 bits"),
        pytest.param(65535 - GREY.astype(np.uint16) * 257, {"photometric": "miniswhite"}, id="16 bits, white is zero"),
        pytest.param((GREY.astype(np.int16) - 128).astype(np.int8), {}, id="signed bytes"),
        pytest.param(GREY.astype(np.float32) / 255, {}, id="floats"),
        pytest.param(GREY.astype(np.uint32) * 16_843_009, {}, id="32 bits"),
        pytest.param(GREY.astype(np.int32) * 1000 - 100_000, {}, id="signed 32 bits"),
    ],
)
def test_grey_values(values: np.ndarray, options: dict[str, Any]) -> None:
    assert np.array_equal(read(encoded(values, **options)), np.repeat(GREY[:, :, None], 3, axis=2))


@pytest.mark.parametrize("extra", [0, 1, 2])
def test_colour_of_8_bits_with_bands_that_are_no_alpha(extra: int) -> None:
    values = np.concatenate([COLOUR, np.full((*GREY.shape, extra), 99, np.uint8)], axis=2)
    options: dict[str, Any] = {"extrasamples": ["unspecified"] * extra} if extra else {}
    content = encoded(values, photometric="rgb", planarconfig="contig", **options)
    assert np.array_equal(read(content), COLOUR)


def test_colour_of_8_bits_in_separate_planes() -> None:
    assert np.array_equal(read(encoded(np.moveaxis(COLOUR, 2, 0), photometric="rgb", planarconfig="separate")), COLOUR)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(
    ("colour", "extra"),
    [
        (COLOUR, ["unassalpha"]),
        (COLOUR, ["assocalpha"]),
        (COLOUR, ["unassalpha", "unspecified"]),
        (GREY[:, :, None], ["unassalpha"]),
    ],
)
def test_alpha_in_separate_planes_is_read_as_if_interleaved(
    colour: np.ndarray, extra: list[str], compression: str | None
) -> None:
    alpha = np.linspace(200, 255, GREY.size).astype(np.uint8).reshape(*GREY.shape, 1)
    values = np.concatenate([np.minimum(colour, 190), *[alpha] * len(extra)], axis=2)
    kind = {"photometric": "minisblack" if colour.shape[2] == 1 else "rgb", "extrasamples": extra}
    interleaved = encoded(values, planarconfig="contig", compression=compression, **kind)
    planes = encoded(np.moveaxis(values, 2, 0), planarconfig="separate", compression=compression, **kind)
    assert np.abs(read(planes).astype(int) - read(interleaved)).max() <= 1


def test_inks_before_another_band_in_separate_planes() -> None:
    inks = np.moveaxis(np.concatenate([255 - COLOUR, np.zeros((*GREY.shape, 2), np.uint8)], axis=2), 2, 0)
    content = encoded(inks, photometric="separated", planarconfig="separate", extrasamples=["unspecified"])
    assert np.abs(read(content).astype(int) - COLOUR).max() <= 1


def test_large_planes_of_inks() -> None:
    inks = np.random.default_rng(0).integers(0, 256, (4, 600, 601)).astype(np.uint8)
    wanted = np.asarray(Image.fromarray(np.moveaxis(inks, 0, 2), "CMYK").convert("RGB"))
    content = encoded(inks.astype(np.uint16) * 257, photometric="separated", planarconfig="separate")
    assert np.array_equal(read(content), wanted)


def test_colour_of_16_bits() -> None:
    assert np.array_equal(read(encoded(COLOUR.astype(np.uint16) * 257, photometric="rgb")), COLOUR)


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        (np.uint16, {}),
        (np.uint16, {"rowsperstrip": 50, "compression": "zlib"}),
        (np.uint16, {"tile": (64, 96), "compression": "zlib", "predictor": True}),
        (np.uint16, {"byteorder": ">"}),
        (np.int32, {"compression": "zlib"}),
        (np.float32, {}),
    ],
)
@pytest.mark.parametrize("alpha", [[], ["unassalpha"]])
def test_large_separate_planes_part_by_part(dtype: type, options: dict[str, Any], alpha: list[str]) -> None:
    generator = np.random.default_rng(0)
    bands = generator.integers(0, 256, (3 + len(alpha), 331, 457)).astype(np.uint8)
    bands[:, -1, -2:] = 0, 255  # black and white are in the last part
    scale = {np.uint16: 257, np.int32: 8_421_504, np.float32: 1 / 255}[dtype]
    values = bands.astype(dtype) * dtype(scale)
    if alpha:
        values[3] = np.iinfo(dtype).max if dtype != np.float32 else 1
    content = encoded(values, photometric="rgb", planarconfig="separate", extrasamples=alpha or None, **options)
    assert np.array_equal(read(content), np.moveaxis(bands[:3], 0, 2))


@pytest.mark.parametrize(
    ("values", "options", "kind"),
    [
        (GREY.astype(np.complex64), {}, "1 band of 64-bit complex numbers"),
        (
            COLOUR[:, :, :2],
            BANDS,
            "2 bands of 8-bit unsigned integers",
        ),
        (
            np.tile(COLOUR, (1, 1, 5))[:, :, :13],
            BANDS,
            "13 bands of 8-bit unsigned integers",
        ),
    ],
)
def test_kinds_that_are_not_read_are_named(
    values: np.ndarray, options: dict[str, Any], kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UnreadableImage, match=f"it is a TIFF of {kind}, which is no picture") as caught:
        read(encoded(values, **options))
    assert "damaged" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_damaged_directory_is_damage() -> None:
    content = bytearray(encoded(GREY))
    content[4:8] = (10**6).to_bytes(4, "little")
    with pytest.raises(UnreadableImage, match="its header is damaged"):
        read(bytes(content))


@pytest.mark.parametrize("big", [False, True])
def test_tags_after_a_damaged_one_are_not_left_to_libtiff(big: bool) -> None:
    """Pillow ends at the damaged tag. libtiff would take memory for the tiles that a later one declares."""
    content = bytearray(encoded(COLOUR, photometric="rgb", tile=(16, 16), compression="zlib", bigtiff=big))
    software = content.index((305).to_bytes(2, "little") + b"\x02\0")
    content[software + 4 : software + 8] = (2**24).to_bytes(4, "little")
    with pytest.raises(UnreadableImage, match="its directory is damaged"):
        read(bytes(content))


@pytest.mark.parametrize("first", [40_000, -40_000 % 2**32])
def test_a_tag_of_the_layout_that_is_there_twice_is_damage(first: int) -> None:
    """Pillow takes the last, libtiff the first."""
    content = bytearray(encoded(COLOUR, photometric="rgb", tile=(16, 16), compression="zlib", software="x" * 20))
    software = content.index((305).to_bytes(2, "little") + b"\x02\0")
    content[software : software + 12] = struct.pack("<HHIi", 322, 4, 1, first if first < 2**31 else first - 2**32)
    with pytest.raises(UnreadableImage, match="its directory is damaged"):
        read(bytes(content))


XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>"""


@pytest.mark.parametrize(
    ("form", "options"), [("JPEG", {"xmp": XMP}), ("WEBP", {"xmp": XMP}), ("TIFF", {"tiffinfo": {700: XMP}})]
)
def test_orientation_in_xmp(form: str, options: dict[str, Any]) -> None:
    stream = BytesIO()
    Image.fromarray(COLOUR).save(stream, form, **options)
    assert read_image(stream.getvalue(), channels=3).size == (4, 32)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.usefixtures("fresh_notes")
def test_bands_that_are_not_shown_are_noted_once(dtype: type, caplog: pytest.LogCaptureFixture) -> None:
    scale = 257 if dtype == np.uint16 else 1
    values = np.concatenate([COLOUR, COLOUR[:, :, :2]], axis=2).astype(dtype) * dtype(scale)
    content = encoded(values, photometric="rgb", planarconfig="contig", extrasamples=["unspecified"] * 2)
    for _ in range(2):
        assert np.array_equal(read(content), COLOUR)
    assert [record.getMessage() for record in caplog.records if "more bands" in record.getMessage()]
    assert len(caplog.records) == 1


@pytest.mark.parametrize("tags", [[(50706, "B", 4, bytes([1, 4, 0, 0]), True)], [(254, "I", 1, 1, True), MAKE]])
def test_a_raw_photograph_is_not_its_thumbnail(tags: list[Any]) -> None:
    options: dict[str, Any] = {"subfiletype": 1} if len(tags) > 1 else {}
    stream = BytesIO()
    with tifffile.TiffWriter(stream) as file:
        file.write(COLOUR, photometric="rgb", subifds=1, extratags=[tags[-1]], **options)
        file.write(COLOUR, photometric="rgb")
    with pytest.raises(UnreadableImage, match="it is a RAW photograph, which Vitral does not read"):
        read(stream.getvalue())


@pytest.mark.parametrize("name", ["tifffile", "imagecodecs"])
def test_a_missing_package_names_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    planes = np.moveaxis(COLOUR, 2, 0).astype(np.uint16) * 257
    content = encoded(planes, photometric="rgb", planarconfig="separate", compression="zlib")
    assert np.array_equal(read(content), COLOUR)
    if name == "imagecodecs":

        def fail(page: object, **_: object) -> None:
            raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

        monkeypatch.setattr(tifffile.TiffPage, "segments", fail)
    else:
        monkeypatch.setitem(sys.modules, name, None)
    kind = "a TIFF of 3 bands of 16-bit unsigned integers in separate planes"
    with pytest.raises(UnreadableImage, match=rf"it is {kind}.*: pip install 'vitral\[images\]' reads it"):
        read(content)


@pytest.mark.parametrize("part", ["tile", "image"])
def test_sizes_are_checked_before_memory_is_taken(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.zeros((32, 32, 3), np.float32)
    content = encoded(values, photometric="rgb", tile=(16, 16) if part == "image" else (1600, 1600), compression="zlib")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UnreadableImage, match="pixels are more than the 1000 allowed"):
        read(content)


def test_a_truncated_file_is_not_black() -> None:
    content = encoded(np.moveaxis(COLOUR, 2, 0).astype(np.uint16) * 257, photometric="rgb", planarconfig="separate")
    with pytest.raises(UnreadableImage, match="it is truncated"):
        read(content[:-40])


def test_a_palette_of_8_bits_is_not_black() -> None:
    image = Image.fromarray(COLOUR).quantize(256)
    colours = np.zeros((3, 256), np.uint16)
    colours[:, : len(image.getpalette() or []) // 3] = np.array(image.getpalette()).reshape(-1, 3).T
    content = encoded(np.asarray(image), photometric="palette", colormap=colours)
    assert np.array_equal(read(content), np.asarray(image.convert("RGB")))


def test_big_tiff() -> None:
    for values in (COLOUR, COLOUR.astype(np.float32) / 255):
        assert np.array_equal(read(encoded(values, photometric="rgb", bigtiff=True)), COLOUR)


def test_a_volume_is_not_its_first_plane() -> None:
    content = encoded(np.stack([GREY, 255 - GREY]), photometric="minisblack", volumetric=True)
    with pytest.raises(UnreadableImage, match="which is no picture"):
        read(content)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_several_grey_bands_are_not_their_first(planar: str, compression: str | None) -> None:
    """Two are no picture; three are red, green and blue, however they are stored."""
    options = dict(photometric="minisblack", planarconfig=planar, compression=compression)
    values = COLOUR if planar == "contig" else np.moveaxis(COLOUR, 2, 0)
    assert np.array_equal(read(encoded(values, extrasamples=(0, 0), **options)), COLOUR)
    two = COLOUR[:, :, :2] if planar == "contig" else values[:2]
    with pytest.raises(UnreadableImage, match=r"2 bands of 8-bit unsigned integers.*, which is no picture"):
        read(encoded(two, extrasamples=(0,), **options))


def test_an_opened_file_that_pillow_reads_wrongly_is_refused() -> None:
    content = encoded(np.moveaxis(COLOUR, 2, 0).astype(np.uint16) * 257, photometric="rgb", planarconfig="separate")
    with Image.open(BytesIO(content)) as image, pytest.raises(UnreadableImage, match="give the file's path instead"):
        read_image(image, channels=3)
    with Image.open(BytesIO(encoded(COLOUR, photometric="rgb"))) as image:
        assert np.array_equal(np.asarray(read_image(image, channels=3)), COLOUR)


@pytest.mark.parametrize("bits", [8, 16])
def test_big_endian_bigtiff(bits: int) -> None:
    """Pillow does not identify it."""
    colours = np.random.default_rng(0).integers(0, 256, (8, 12, 3)).astype(np.uint8)
    values = colours if bits == 8 else colours.astype(np.uint16) * 257
    stream = BytesIO()
    tifffile.imwrite(stream, values, photometric="rgb", bigtiff=True, byteorder=">")
    assert np.array_equal(np.asarray(read_image(stream.getvalue(), channels=3)), colours)
