"""Images of any number of channels: their values, what files say about them, and every refusal."""

import io
import logging
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from vitral.data.augment.apply import augment_batch
from vitral.data.augment.config import AugmentConfig
from vitral.data.augment.params import sample_params
from vitral.data.images.bands import BandImage, read_bands, to_picture
from vitral.data.images.decode import UnreadableImage
from vitral.data.images.preprocess import Preprocessing
from vitral.data.notes import note_once
from vitral.errors import UserError

TYPES = ("uint8", "uint16", "int16", "uint32", "int32", "int8", "float16", "float32", "float64")


def npy(values: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, **options)
    return stream.getvalue()


def tiff(values: np.ndarray, **options: Any) -> bytes:
    """A TIFF of an array of (h, w, c), its channels interleaved unless the options say otherwise."""
    stream = io.BytesIO()
    defaults = dict(photometric="minisblack", planarconfig="contig")
    tifffile.imwrite(stream, values, **{**defaults, **options})
    return stream.getvalue()


def ramp(*shape: int, dtype: Any = np.uint16) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def refusal(content: Any, channels: int, name: str = "a.tif") -> str:
    with pytest.raises(UnreadableImage) as caught:
        read_bands(content, channels=channels, name=name)
    sentence = str(caught.value)
    assert sentence.startswith(f"{name} cannot be read as an image of {channels} channel")
    assert "\n" not in sentence
    return sentence


def small_arrays() -> st.SearchStrategy[np.ndarray]:
    """Arrays of (h, w, c) of every type, without values that are missing or too large for float32."""
    sides = st.tuples(st.integers(17, 20), st.integers(17, 20), st.integers(1, 16))
    limits = dict(allow_nan=False, allow_infinity=False, min_value=-1e4, max_value=1e4)
    return st.tuples(sides, st.sampled_from(TYPES)).flatmap(
        lambda pair: arrays.arrays(
            pair[1], pair[0], elements=limits if pair[1].startswith("float") else None, fill=st.just(0)
        )
    )


@settings(max_examples=60, deadline=None)
@given(small_arrays(), st.sampled_from(["npy", "contig", "separate", "pages"]), st.booleans())
@example(np.ones((17, 18, 1), np.uint16), "contig", True)
@example(np.ones((17, 18, 1), np.uint16), "separate", False)
def test_every_array_comes_back_exactly(values: np.ndarray, form: str, flag: bool) -> None:
    height, width, channels = values.shape
    first = np.moveaxis(values, 2, 0)
    if form == "npy":
        content = npy(values.astype(values.dtype.newbyteorder(">")) if flag else first.copy(order="F"))
    elif channels == 1 and form != "pages":  # tifffile refuses to interleave a single channel, or to put it in planes
        content = tiff(values[:, :, 0], planarconfig=None, compression="zlib" if flag else None)
    elif form == "contig":
        content = tiff(values, compression="zlib" if flag else None, bigtiff=flag)
    elif form == "separate":
        content = tiff(first, planarconfig="separate", byteorder=">" if flag else "<")
    else:
        content = tiff(first, planarconfig=None, metadata=None if flag else {})
    image = read_bands(content, channels=channels)
    assert image.values.dtype == values.dtype
    np.testing.assert_array_equal(image.values, values)
    assert image.missing is None
    assert image.size == (width, height)


@pytest.mark.parametrize("compression", ["lzw", "zstd", "lzma", "packbits"])
def test_compressed_tiff(compression: str) -> None:
    values = ramp(32, 24, 13)
    options = {} if compression == "packbits" else dict(predictor=True)
    np.testing.assert_array_equal(
        read_bands(tiff(values, compression=compression, **options), channels=13).values, values
    )


def test_tiled_floats_with_predictor() -> None:
    values = ramp(64, 48, 3, dtype=np.float32) / 7
    content = tiff(values, tile=(16, 16), compression="zlib", predictor=3)
    np.testing.assert_array_equal(read_bands(content, channels=3).values, values)


def test_one_channel_may_have_no_axis(tmp_path: Path) -> None:
    values = ramp(8, 9, dtype=np.float32)
    for content in (npy(values), tiff(values, planarconfig=None), values, Image.fromarray(values)):
        np.testing.assert_array_equal(read_bands(content, channels=1).values[:, :, 0], values)


def test_a_header_on_which_pythons_parser_stumbles_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    parse, calls = np.lib.format.read_array_header_1_0, []

    def stumble(stream: io.BytesIO) -> Any:
        calls.append(parse(stream))
        if len(calls) == 1:
            raise SystemError("AST constructor recursion depth mismatch (before=54, after=51)")
        return calls[-1]

    monkeypatch.setattr(np.lib.format, "read_array_header_1_0", stumble)
    values = ramp(8, 9, 4)
    np.testing.assert_array_equal(read_bands(npy(values), channels=4).values, values)
    assert len(calls) == 2


def test_a_path_is_read_and_named(tmp_path: Path) -> None:
    np.save(tmp_path / "tile.npy", ramp(8, 9, 4))
    assert read_bands(tmp_path / "tile.npy", channels=4).values.shape == (8, 9, 4)
    assert str(tmp_path / "tile.npy") in refusal(tmp_path / "tile.npy", 5, name=str(tmp_path / "tile.npy"))
    assert "there is no such file" in refusal(tmp_path / "none.npy", 5)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_a_tiff(orientation: int) -> None:
    upright = ramp(4, 6, 5)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    content = tiff(np.ascontiguousarray(stored), extratags=[(274, "H", 1, orientation, True)])
    np.testing.assert_array_equal(read_bands(content, channels=5).values, upright)


def test_other_numbers_of_channels_are_named() -> None:
    assert "it has 13 channels, not 12" in refusal(tiff(ramp(32, 24, 13)), 12)
    assert "it has 13 channels, not 12" in refusal(tiff(ramp(13, 32, 24), planarconfig="separate"), 12)
    assert "it has 4 channels, not 12" in refusal(npy(ramp(32, 24, 4)), 12)
    assert "it has 1 channel, not 12" in refusal(npy(ramp(32, 24)), 12)


def test_channels_first_or_last_must_be_clear() -> None:
    assert "first or last" in refusal(npy(ramp(4, 9, 4)), 4)
    assert read_bands(tiff(ramp(4, 9, 4), planarconfig="separate"), channels=4).values.shape == (9, 4, 4)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n", "neither a TIFF nor a NumPy file"),
        (npy(ramp(8, 9, 4))[:-1], "truncated"),
        (npy(ramp(8, 9, 4))[:20], "truncated"),
        (tiff(ramp(8, 9, 4))[:-20], "truncated"),
        (tiff(ramp(8, 9, 4), compression="zlib")[:-20], "truncated"),
        (b"II*\0" + bytes(50), "damaged"),
        (npy(np.array([["a", "b"]])), "type <U1"),
        (npy(np.zeros((4, 4, 4), np.complex64)), "type complex64"),
        (npy(np.array([{}]), allow_pickle=True), "type object"),
        (tiff(np.zeros((4, 5, 4), np.complex64)), "type complex64"),
        (npy(np.zeros((0, 4, 4))), "no pixels"),
        (npy(np.zeros((2, 4, 4, 4))), "2x4x4x4"),
        (npy(np.full((8, 9, 4), np.inf)), "infinite"),
        (npy(np.full((8, 9, 4), 1e300)), "too large"),
        (npy(np.full((8, 9, 4), np.nan)), "all of its values are missing"),
        (tiff(ramp(8, 9, 4), photometric="miniswhite"), "white is zero"),
    ],
)
def test_what_is_not_read_says_why(content: bytes, words: str) -> None:
    assert words in refusal(content, 4)


def test_a_header_that_claims_too_much_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    header = npy(np.zeros((1, 1, 4), np.uint8))
    claims = header.replace(b"(1, 1, 4), }" + b" " * 16, b"(9999999, 9999999, 4), }" + b" " * 4)
    assert len(claims) == len(header)
    assert claims != header
    assert "VITRAL_MAX_PIXELS" in refusal(claims, 4)
    monkeypatch.setenv("VITRAL_MAX_PIXELS", "100")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    assert "VITRAL_MAX_PIXELS=288" in refusal(npy(ramp(8, 9, 4)), 4)


def test_of_several_images_the_first_is_read(caplog: pytest.LogCaptureFixture) -> None:
    note_once.cache_clear()
    stream, options = io.BytesIO(), dict(photometric="minisblack", planarconfig="contig")
    with tifffile.TiffWriter(stream) as file:
        file.write(ramp(32, 24, 4), subifds=1, **options)
        file.write(ramp(16, 12, 4), subfiletype=1, **options)  # a smaller copy, as in a cloud-optimised GeoTIFF
    with caplog.at_level(logging.WARNING, "vitral"):
        np.testing.assert_array_equal(read_bands(stream.getvalue(), channels=4).values, ramp(32, 24, 4))
        assert "several sizes" not in caplog.text
        with tifffile.TiffWriter(stream := io.BytesIO()) as file:
            file.write(ramp(32, 24, 4), **options)
            file.write(ramp(20, 30, 4), **options)
        np.testing.assert_array_equal(read_bands(stream.getvalue(), channels=4).values, ramp(32, 24, 4))
        assert "several sizes" in caplog.text


def test_a_palette_is_refused() -> None:
    stream = io.BytesIO()
    Image.fromarray(ramp(4, 5, dtype=np.uint8)).convert("P").save(stream, "TIFF")
    assert "palette" in refusal(stream.getvalue(), 1)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    content = tiff(ramp(4, 5, 3))
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(UserError, match=r"tifffile: pip install 'vitral\[images\]'") as caught:
        read_bands(content, channels=3)
    assert not isinstance(caught.value, UnreadableImage)


# missing values


def test_nan_becomes_the_mean_of_its_channel(caplog: pytest.LogCaptureFixture) -> None:
    note_once.cache_clear()
    values = ramp(8, 9, 4, dtype=np.float32)
    values[2, 3, 1] = np.nan
    with caplog.at_level(logging.WARNING, "vitral"):
        for _ in range(2):
            image = read_bands(npy(values), channels=4)
    assert sum("missing values" in record.message for record in caplog.records) == 1
    filled = image.filled((1.0, 20.0, 3.0, 4.0)).values
    assert filled[2, 3, 1] == 20
    filled[2, 3, 1] = values[2, 3, 1]
    np.testing.assert_array_equal(filled, values)


@pytest.mark.parametrize(
    ("dtype", "nodata", "stored"),
    [
        ("int16", "-9999", -9999),
        ("uint16", "0", 0),
        ("float32", "-3.40282346638529e+38", np.finfo(np.float32).min),
        ("float64", "-9999.5", -9999.5),
        ("float32", "nan", np.nan),
    ],
)
def test_nodata_of_a_tiff_is_missing(dtype: str, nodata: str, stored: float) -> None:
    values = (ramp(8, 9, 4) + 1).astype(dtype)
    values[1, 2] = stored
    content = tiff(values, extratags=[(42113, "s", 0, nodata, True)])
    missing = read_bands(content, channels=4).missing
    assert missing is not None
    assert missing[1, 2].all()
    assert missing.sum() == 4


@pytest.mark.parametrize("nodata", ["-9999", "1.5", "70000", "none"])
def test_nodata_that_no_pixel_can_have(nodata: str) -> None:
    content = tiff(ramp(8, 9, 4), extratags=[(42113, "s", 0, nodata, True)])
    assert read_bands(content, channels=4).missing is None


# preprocessing


def satellite(channels: int = 4, size: tuple[int, int] = (6, 8), **changes: Any) -> Preprocessing:
    means, deviations = (tuple(float(first + c) for c in range(channels)) for first in (100, 10))
    return Preprocessing(
        image_size=size, channels=channels, bands=True, **{"mean": means, "std": deviations, **changes}
    )


def test_values_keep_their_precision_and_are_normalised_by_channel() -> None:
    preprocessing, values = satellite(), ramp(6, 8, 4) * 300 + 1
    pixels = preprocessing.pixels(preprocessing.read(npy(values), name="a.npy"))
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels, values)
    images = preprocessing.normalise(torch.from_numpy(pixels[None]))
    expected = (values - np.array(preprocessing.mean)) / np.array(preprocessing.std)
    np.testing.assert_allclose(images[0].permute(1, 2, 0), expected, rtol=1e-6)
    np.testing.assert_array_equal(pixels, values)  # normalising does not change its input


@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
def test_each_channel_is_resized_as_pillow_resizes_it(resize: str, interpolation: str) -> None:
    values = np.random.default_rng(0).integers(0, 256, (33, 47, 3)).astype(np.uint8)
    bands = satellite(3, resize=resize, interpolation=interpolation)
    picture = Preprocessing(image_size=(6, 8), channels=3, resize=resize, interpolation=interpolation)
    found, expected = bands.pixels(bands.read(values, name=None)), picture.pixels(Image.fromarray(values))
    assert np.abs(np.clip(found, 0, 255) - expected).max() <= 1
    offset = (0.3, 0.6)
    found, expected = (
        spec.simple_crop(spec.read(stored, name=None), offset)
        for spec, stored in ((bands, values), (picture, Image.fromarray(values)))
    )
    assert np.abs(np.clip(found, 0, 255) - expected).max() <= 1


def test_missing_values_are_zero_after_normalisation() -> None:
    values = ramp(6, 8, 4, dtype=np.float32)
    values[:, :, 2] = np.nan
    preprocessing = satellite()
    images = preprocessing.normalise(
        torch.from_numpy(preprocessing.pixels(preprocessing.read(values, name=None))[None])
    )
    assert not images[0, 2].any()


def test_augmentations_of_place_work_and_keep_the_values() -> None:
    config = AugmentConfig(flip=True, flip_vertical=True, shift=1, rotate=20.0, scale=0.1, erase=0.5, mixup=0.2)
    preprocessing = satellite(13, (16, 16))
    values = np.random.default_rng(0).normal(100, 10, (8, 16, 16, 13)).astype(np.float32)
    rows = np.arange(8)
    params = sample_params(config, seed=3, epoch=0 * rows, index=rows, pairs=np.arange(4))
    labels = torch.zeros(8, dtype=torch.int64)
    examples = augment_batch(torch.from_numpy(values), labels, params, config=config, preprocessing=preprocessing)
    assert examples.images.shape == (8, 13, 16, 16)
    assert examples.images.isfinite().all()


def test_a_warp_fills_the_border_with_the_mean() -> None:
    config, preprocessing = AugmentConfig(shift=3), satellite(2, (8, 8), mean=(50.0, 60.0), std=(1.0, 1.0))
    values = torch.tensor([50.0, 60.0]).expand(4, 8, 8, 2).contiguous()
    params = sample_params(config, seed=0, epoch=np.zeros(4, np.int64), index=np.arange(4))
    labels = torch.zeros(4, dtype=torch.int64)
    examples = augment_batch(values, labels, params, config=config, preprocessing=preprocessing)
    assert not examples.images.any()


def test_the_range_of_pictures_covers_three_deviations() -> None:
    preprocessing = satellite()
    images = torch.tensor([-4.0, -3.0, 0.0, 3.0]).view(1, 4, 1, 1)
    assert preprocessing.to_unit_range(images).flatten().tolist() == [0, 0, 0.5, 1]


def test_a_picture_is_the_mean_of_the_channels() -> None:
    values = np.stack([np.linspace(0, 1, 100).reshape(10, 10)] * 3, axis=2).astype(np.float32)
    grey = to_picture(values)
    assert (grey.min(), grey.max()) == (0, 255)
    assert (np.diff(grey.ravel().astype(int)) >= 0).all()
    assert not to_picture(np.ones((4, 4, 3), np.float32)).any()
    picture = satellite(3).picture(BandImage(values=values))
    assert (picture.mode, picture.size) == ("L", (10, 10))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"channels": 17}, "from 1 to 16"),
        ({"mean": (1.0, 2.0)}, "mean takes one number or one for each of 4"),
        ({"mean": ()}, "go together"),
        ({"std": ()}, "go together"),
        ({"bands": False}, "--data.channels"),
    ],
)
def test_wrong_preprocessing(wrong: dict[str, Any], words: str) -> None:
    settings = dict(image_size=(4, 4), channels=4, bands=True, mean=(1.0,), std=(1.0,))
    with pytest.raises(UserError, match=words):
        Preprocessing(**{**settings, **wrong})


def test_unknown_statistics_are_an_error_when_an_image_is_read() -> None:
    preprocessing = satellite(mean=(), std=())
    with pytest.raises(UserError, match=r"--data\.channels 4"):
        preprocessing.read(npy(ramp(6, 8, 4)), name="a.npy")


def test_pictures_become_images_of_channels_once() -> None:
    picture = Preprocessing(image_size=(4, 4), channels=3)
    bands = picture.with_bands(5)
    assert (bands.bands, bands.channels, bands.mean, bands.std) == (True, 5, (), ())
    known = satellite(5)
    assert known.with_bands(5) is known
    assert known.with_bands(4).mean == ()
    with pytest.raises(UserError, match=r"--data\.channels"):
        known.with_input(image_size=(4, 4), channels=3)
    assert known.with_input(image_size=(9, 9), channels=5).mean == known.mean


# damaged files

KINDS = (
    lambda values: npy(values),
    lambda values: npy(values.astype(np.float64)),
    lambda values: tiff(values),
    lambda values: tiff(values, compression="zlib", tile=(16, 16)),
    lambda values: tiff(values, compression="lzw", predictor=True),
    lambda values: tiff(values.astype(np.float32), bigtiff=True),
)


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Flipped bits, a truncation, or other bytes in the header."""
    changed = bytearray(content)
    kind = rng.integers(3)
    if kind == 0:
        return content[: rng.integers(len(content))]
    for place in rng.integers(len(content) if kind == 1 else 400, size=rng.integers(1, 6)):
        changed[place] = rng.integers(256)
    return bytes(changed)


def test_damaged_files_are_read_or_refused_in_one_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    rng, refused = np.random.default_rng(0), []
    values = rng.integers(0, 60000, (20, 24, 5)).astype(np.uint16)
    for content in [kind(values) for kind in KINDS for _ in range(100)]:
        try:
            assert read_bands(mutated(content, rng), channels=5).values.shape[2] == 5
        except UnreadableImage as error:
            refused.append(str(error))
    assert len(refused) > 200
    assert not any("\n" in sentence for sentence in refused)
    assert capfd.readouterr() == ("", "")


def test_a_tile_that_claims_too_much() -> None:
    content = bytearray(tiff(ramp(20, 24, 5), tile=(16, 16)))
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        tags = file.pages[0].tags
        places = [tags[name].offset + 8 for name in ("TileWidth", "TileLength")]
    for place in places:
        content[place : place + 2] = (65520).to_bytes(2, "little")
    assert "one of its tiles" in refusal(bytes(content), 5)


@pytest.mark.parametrize("tag", [256, 257, 322, 323])
def test_a_side_of_several_numbers_is_damage(tag: int) -> None:
    """Width, length, and those of tiles."""
    stream = io.BytesIO()
    planes = np.ones((3, 20, 24), np.uint16)
    tifffile.imwrite(stream, planes, tile=(16, 16), photometric="minisblack", planarconfig="separate", byteorder="<")
    content = bytearray(stream.getvalue())
    (at,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, at)
    entries = [at + 2 + 12 * number for number in range(count)]
    (entry,) = (entry for entry in entries if struct.unpack_from("<H", content, entry) == (tag,))
    struct.pack_into("<I", content, entry + 4, 2)
    with pytest.raises(UnreadableImage, match="damaged"):
        read_bands(bytes(content), channels=3, name="a.tif")


def test_pages_that_form_a_circle_are_damage() -> None:
    """The second page names itself as the next."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.ones((4, 4, 3), np.uint16), photometric="rgb", byteorder="<", metadata=None)
    content = bytearray(stream.getvalue())
    (at,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, at)
    circle = len(content) + len(content) % 2
    struct.pack_into("<I", content, at + 2 + 12 * count, circle)
    entry = struct.pack("<HHII", 256, 3, 1, 4)
    content = content.ljust(circle, b"\0") + struct.pack("<H", 1) + entry + struct.pack("<I", circle)
    with pytest.raises(UnreadableImage, match="damaged"):
        read_bands(bytes(content), channels=3, name="a.tif")
