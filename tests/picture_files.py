"""One picture in hundreds of image files: every format, mode, depth, orientation and way of transparency.

The picture is 64 pixels wide and 32 high, and has four corners: red, blue, green and light grey.
"""

import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import pillow_heif
import pillow_jxl.JpegXLImagePlugin  # noqa: F401 - registers itself
import tifffile
from PIL import Image

__all__ = [
    *(
        "COLOUR",
        "GREY",
        "SIZE",
        "PictureFile",
        "deep",
        "exif",
        "packed",
        "picture_files",
        "png_chunk",
        "png_file",
        "xmp",
    ),
]

SIZE = (32, 64)
"""Height and width."""
HEIGHT, WIDTH = SIZE
ORIENTATION = 0x0112
XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{}"/></rdf:RDF></x:xmpmeta>"""

pillow_heif.register_heif_opener()


@dataclass(frozen=True, kw_only=True)
class PictureFile:
    """A file, and what it shows."""

    name: str
    content: bytes
    shown: np.ndarray
    """Upright pixels, (32, 64, 3), uint8."""
    tolerance: int
    """Levels by which they may differ; above 1, only the corners are compared."""


def picture() -> np.ndarray:
    """The picture's pixels."""
    pixels = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    pixels[: HEIGHT // 2, : WIDTH // 2], pixels[: HEIGHT // 2, WIDTH // 2 :] = (220, 20, 20), (20, 20, 220)
    pixels[HEIGHT // 2 :, : WIDTH // 2] = (20, 200, 20)
    return pixels


COLOUR = picture()
GREY = np.asarray(Image.fromarray(COLOUR).convert("L"))
ALPHA = np.full(SIZE, 255, np.uint8)
ALPHA[:, WIDTH // 4 : WIDTH // 2] = 128
ALPHA[HEIGHT // 4 : HEIGHT // 2] = 0
"""A column of the left half is half transparent, a row of the upper half wholly."""


def over_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """What a picture with transparency shows."""
    opacity = alpha[:, :, None] / 255
    return np.rint(as_colour(pixels) * opacity + 255 * (1 - opacity)).astype(np.uint8)


def as_colour(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.ndim == 3 else pixels[:, :, None].repeat(3, axis=2)


def stored(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels as a file of this EXIF orientation stores them."""
    turned = {
        1: lambda x: x,
        2: np.fliplr,
        3: lambda x: np.rot90(x, 2),
        4: np.flipud,
        5: lambda x: np.swapaxes(x, 0, 1),
        6: lambda x: np.rot90(x),
        7: lambda x: np.swapaxes(np.rot90(x, 2), 0, 1),
        8: lambda x: np.rot90(x, -1),
    }[orientation]
    return np.ascontiguousarray(turned(pixels))


def picture_files() -> list[PictureFile]:
    """Every file."""
    families = (jpegs, pngs, webps, gifs, bitmaps, netpbms, tiffs, tiff_orientations, odd_tiffs, modern, jpeg2000s)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the writers
        return [file for family in families for file in family()]


def saved(pixels: np.ndarray | Image.Image, form: str, **options: Any) -> bytes:
    stream = BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(stream, form, **options)
    return stream.getvalue()


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags.tobytes()


def xmp(orientation: int) -> bytes:
    return XMP.format(orientation).encode()


def jpegs() -> Iterator[PictureFile]:
    for orientation in range(1, 9):
        for mode, pixels in (("RGB", COLOUR), ("L", GREY), ("CMYK", COLOUR)):
            image = Image.fromarray(stored(pixels, orientation)).convert(mode)
            for way, options in (("exif", {"exif": exif(orientation)}), ("xmp", {"xmp": xmp(orientation)})):
                content = saved(image, "JPEG", quality=95, **options)
                yield PictureFile(
                    name=f"{mode}-{way}-{orientation}.jpg", content=content, shown=as_colour(pixels), tolerance=12
                )
    for subsampling in (0, 1, 2):
        for progressive in (False, True):
            content = saved(COLOUR, "JPEG", quality=95, subsampling=subsampling, progressive=progressive)
            name = f"subsampling-{subsampling}-{'progressive' if progressive else 'baseline'}.jpg"
            yield PictureFile(name=name, content=content, shown=COLOUR, tolerance=12)
    content = saved(COLOUR, "JPEG", quality=95, keep_rgb=True)
    yield PictureFile(name="stored-as-rgb.jpg", content=content, shown=COLOUR, tolerance=12)


def png_file(rows: list[bytes], width: int, *, depth: int, kind: int, chunks: bytes = b"") -> bytes:
    """A PNG from packed rows; `kind` is 0 grey, 2 colour, 3 palette, 4 grey with alpha, 6 colour with alpha."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), depth, kind, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + chunks + data + png_chunk(b"IEND", b"")


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed(values: np.ndarray, depth: int) -> list[bytes]:
    """Rows of samples of 1, 2, 4, 8 or 16 bits."""
    rows = values.reshape(len(values), -1).astype(np.uint32)
    bits = (rows[:, :, None] >> np.arange(depth - 1, -1, -1) & 1).astype(np.uint8)
    return [row.tobytes() for row in np.packbits(bits.reshape(len(rows), -1), axis=1)]


def deep(pixels: np.ndarray, depth: int) -> np.ndarray:
    """Values of `depth` bits nearest to those of 8 bits."""
    return np.rint(pixels / 255 * (2**depth - 1)).astype(np.int64)


def pngs() -> Iterator[PictureFile]:
    for depth in (1, 2, 4, 8, 16):
        values = deep(GREY, depth)
        shown = as_colour(np.rint(values * 255 / (2**depth - 1)).astype(np.uint8))
        hidden = shown.copy()
        hidden[values == values[0, 0]] = 255
        key = png_chunk(b"tRNS", struct.pack(">H", values[0, 0]))
        for way, chunks, expected in (("", b"", shown), ("-transparent", key, hidden)):
            yield from oriented_png(f"grey-{depth}{way}", values, expected, depth=depth, kind=0, chunks=chunks)
    for depth in (8, 16):
        values, alpha = deep(COLOUR, depth), deep(ALPHA, depth)
        hidden = COLOUR.copy()
        hidden[: HEIGHT // 2, : WIDTH // 2] = 255
        key = png_chunk(b"tRNS", struct.pack(">HHH", *values[0, 0].tolist()))
        yield from oriented_png(f"colour-{depth}", values, COLOUR, depth=depth, kind=2)
        yield from oriented_png(f"colour-{depth}-transparent", values, hidden, depth=depth, kind=2, chunks=key)
        for kind, pixels in ((4, GREY), (6, COLOUR)):
            together = np.dstack([deep(pixels, depth), alpha])
            yield from oriented_png(
                f"alpha-{kind}-{depth}", together, over_white(pixels, ALPHA), depth=depth, kind=kind
            )
    yield from palette_pngs()
    for depth in (9, 10, 12, 14):
        for kind, pixels in ((0, GREY), (2, COLOUR)):
            chunk = png_chunk(b"sBIT", bytes([depth] * (1 if kind == 0 else 3)))
            values = deep(pixels, depth)
            for way, samples in (("low", values), ("high", values << (16 - depth) | values >> (2 * depth - 16))):
                content = png_file(packed(samples, 16), WIDTH, depth=16, kind=kind, chunks=chunk)
                name = f"{kind}-{way}-{depth}-of-16.png"
                yield PictureFile(name=name, content=content, shown=as_colour(pixels), tolerance=1)
    for orientation in range(1, 9):
        text = b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(orientation)
        rows = packed(stored(COLOUR, orientation), 8)
        width = stored(COLOUR, orientation).shape[1]
        content = png_file(rows, width, depth=8, kind=2, chunks=png_chunk(b"iTXt", text))
        yield PictureFile(name=f"xmp-{orientation}.png", content=content, shown=COLOUR, tolerance=1)


def oriented_png(
    name: str, values: np.ndarray, shown: np.ndarray, *, depth: int, kind: int, chunks: bytes = b""
) -> Iterator[PictureFile]:
    for orientation in (1, 3, 6, 8):
        samples = stored(values, orientation)
        note = png_chunk(b"eXIf", exif(orientation).removeprefix(b"Exif\0\0"))
        content = png_file(packed(samples, depth), samples.shape[1], depth=depth, kind=kind, chunks=chunks + note)
        yield PictureFile(name=f"{name}-{orientation}.png", content=content, shown=shown, tolerance=1)


def palette_pngs() -> Iterator[PictureFile]:
    colours = [(220, 20, 20), (20, 20, 220), (20, 200, 20), (200, 200, 200)]
    index = np.zeros(SIZE, np.int64)
    for number, colour in enumerate(colours):
        index[(colour == COLOUR).all(axis=2)] = number
    for depth in (2, 4, 8):
        palette = png_chunk(b"PLTE", bytes(value for colour in colours for value in colour))
        alpha = np.array([128, 255, 0, 255], np.uint8)
        for way, chunks, shown in (
            ("", b"", COLOUR),
            ("-alpha", png_chunk(b"tRNS", alpha.tobytes()), over_white(COLOUR, alpha[index])),
            ("-key", png_chunk(b"tRNS", b"\xff\0"), over_white(COLOUR, np.where(index == 1, 0, 255))),
        ):
            yield from oriented_png(f"palette-{depth}{way}", index, shown, depth=depth, kind=3, chunks=palette + chunks)


def webps() -> Iterator[PictureFile]:
    for orientation in range(1, 9):
        for way, options in (("exif", {"exif": exif(orientation)}), ("xmp", {"xmp": xmp(orientation)})):
            opaque, clear = stored(COLOUR, orientation), stored(np.dstack([COLOUR, ALPHA]), orientation)
            for kind, content, shown, tolerance in (
                ("lossy", saved(opaque, "WEBP", quality=95, **options), COLOUR, 12),
                ("lossless", saved(opaque, "WEBP", lossless=True, **options), COLOUR, 1),
                ("alpha", saved(clear, "WEBP", lossless=True, exact=True, **options), over_white(COLOUR, ALPHA), 1),
            ):
                name = f"{kind}-{way}-{orientation}.webp"
                yield PictureFile(name=name, content=content, shown=shown, tolerance=tolerance)


def gifs() -> Iterator[PictureFile]:
    colours = Image.fromarray(COLOUR).quantize(4)
    yield PictureFile(name="plain.gif", content=saved(colours, "GIF"), shown=COLOUR, tolerance=1)
    other = Image.new("P", colours.size)
    frames = saved(colours, "GIF", save_all=True, append_images=[other, other])
    yield PictureFile(name="animated.gif", content=frames, shown=COLOUR, tolerance=1)
    key = colours.getpixel((0, 0))
    hidden = COLOUR.copy()
    hidden[: HEIGHT // 2, : WIDTH // 2] = 255
    yield PictureFile(
        name="transparent.gif", content=saved(colours, "GIF", transparency=key), shown=hidden, tolerance=1
    )
    yield PictureFile(name="grey.gif", content=saved(GREY, "GIF"), shown=as_colour(GREY), tolerance=1)


def bitmaps() -> Iterator[PictureFile]:
    image = Image.fromarray(COLOUR)
    bits = Image.fromarray(GREY).point(lambda value: 255 * (value > 100)).convert("1")
    for kind, form, shown in (
        ("colour", image, COLOUR),
        ("grey", Image.fromarray(GREY), as_colour(GREY)),
        ("palette", image.quantize(4), COLOUR),
        ("bits", bits, as_colour(np.asarray(bits).astype(np.uint8) * 255)),
    ):
        yield PictureFile(name=f"{kind}.bmp", content=saved(form, "BMP"), shown=shown, tolerance=1)


def netpbms() -> Iterator[PictureFile]:
    """Raw and plain, of 8, 10 and 16 bits."""
    for depth in (8, 10, 16):
        for kind, pixels, ending in ((5, GREY, "pgm"), (6, COLOUR, "ppm")):
            values = deep(pixels, depth)
            for way, number, data in (
                ("raw", kind, values.astype("u1" if depth == 8 else ">u2").tobytes()),
                ("plain", kind - 3, " ".join(map(str, values.ravel().tolist())).encode()),
            ):
                content = f"P{number}\n{WIDTH} {HEIGHT}\n{2**depth - 1}\n".encode() + data
                yield PictureFile(name=f"{way}-{depth}.{ending}", content=content, shown=as_colour(pixels), tolerance=1)


def tiff(values: np.ndarray, **options: Any) -> bytes:
    stream = BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


def scaled(pixels: np.ndarray, dtype: str) -> np.ndarray:
    """Pixels as values of a type, white being its largest, or 1."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return (pixels / 255).astype(kind)
    if dtype == "i1":
        return (pixels.astype(int) - 128).astype(kind)
    return np.rint(pixels / 255 * np.iinfo(kind).max).astype(kind)


def bands(dtype: str) -> Iterator[tuple[str, np.ndarray, np.ndarray, dict[str, Any]]]:
    """Each arrangement of bands: its name, values, what they show, and tifffile's options."""
    colour, grey, alpha = (scaled(pixels, dtype) for pixels in (COLOUR, GREY, ALPHA))
    contiguous, separate = {"planarconfig": "contig"}, {"planarconfig": "separate"}
    yield "grey", grey, as_colour(GREY), {"photometric": "minisblack"}
    yield "white-is-zero", scaled(255 - GREY, dtype), as_colour(GREY), {"photometric": "miniswhite"}
    for way, options in (("interleaved", contiguous), ("planar", separate)):
        order = (0, 1, 2) if way == "interleaved" else (2, 0, 1)
        clear, fourth = {"extrasamples": ["unassalpha"]}, {"extrasamples": ["unspecified"]}
        more = np.dstack([colour, alpha])
        yield f"rgb-{way}", colour.transpose(order), COLOUR, {"photometric": "rgb", **options}
        yield f"rgbx-{way}", more.transpose(order), COLOUR, {"photometric": "rgb", **options, **fourth}
        rgba = {"photometric": "rgb", **options, **clear}
        yield f"rgba-{way}", more.transpose(order), over_white(COLOUR, ALPHA), rgba
    inks = np.dstack([scaled(255 - COLOUR, dtype), scaled(np.zeros(SIZE), dtype)])
    yield "cmyk", inks, COLOUR, {"photometric": "separated", **contiguous}


def tiffs() -> Iterator[PictureFile]:
    for dtype in ("u1", "i1", "u2", "i2", "f2", "f4", "f8"):
        for arrangement, values, shown, options in bands(dtype):
            for order in "<>":
                for compression, tile in (
                    (None, None),
                    ("lzw", None),
                    ("zlib", None),
                    ("packbits", None),
                    (None, (16, 16)),
                    ("zlib", (16, 16)),
                ):
                    form = tiff(values, byteorder=order, compression=compression, tile=tile, **options)
                    tiled = "-tiled" if tile else ""
                    name = f"{dtype}-{arrangement}-{compression}{tiled}-{'little' if order == '<' else 'big'}.tif"
                    yield PictureFile(name=name, content=form, shown=shown, tolerance=1)


def tiff_orientations() -> Iterator[PictureFile]:
    for orientation in range(1, 9):
        tag = [(ORIENTATION, "H", 1, orientation, True)]
        text = xmp(orientation)
        note = [(700, "B", len(text), text, True)]
        for dtype in ("u1", "u2", "f4"):
            for way, tags in (("tag", tag), ("xmp", note)):
                values = scaled(stored(COLOUR, orientation), dtype)
                content = tiff(values, photometric="rgb", extratags=tags)
                yield PictureFile(name=f"{dtype}-{way}-{orientation}.tif", content=content, shown=COLOUR, tolerance=1)


def odd_tiffs() -> Iterator[PictureFile]:
    """TIFFs that few programs write."""
    image = Image.fromarray(COLOUR)
    bits = Image.fromarray(GREY).point(lambda value: 255 * (value > 100)).convert("1")
    black_and_white = as_colour(np.asarray(bits).astype(np.uint8) * 255)
    for compression in (None, "group3", "group4", "tiff_lzw", "packbits"):
        content = saved(bits, "TIFF", compression=compression)
        yield PictureFile(name=f"bits-{compression}.tif", content=content, shown=black_and_white, tolerance=1)
    for compression in ("jpeg", "tiff_lzw", "tiff_adobe_deflate"):
        for mode, shown in (("RGB", COLOUR), ("L", as_colour(GREY)), ("P", COLOUR), ("YCbCr", COLOUR)):
            form = image.quantize(4) if mode == "P" else image.convert(mode)
            if compression == "jpeg" and mode == "P":
                continue
            content = saved(form, "TIFF", compression=compression, **({"quality": 95} if compression == "jpeg" else {}))
            lossy = compression == "jpeg" or mode == "YCbCr"
            name = f"{mode}-{compression}.tif"
            yield PictureFile(name=name, content=content, shown=shown, tolerance=12 if lossy else 1)
    for depth in (10, 12, 14):
        for kind, pixels in (("grey", GREY), ("rgb", COLOUR)):
            options: dict[str, Any] = {"photometric": "minisblack" if kind == "grey" else "rgb"}
            values = deep(pixels, depth).astype(np.uint16)
            white = [(281, "H", 1, 2**depth - 1, True)]
            declared = tiff(values, extratags=white, **options)
            shown = as_colour(pixels)
            yield PictureFile(name=f"{kind}-max-{depth}.tif", content=declared, shown=shown, tolerance=1)
    for depth in (10, 12, 14):
        content = packed_tiff(packed(deep(GREY, depth), depth), depth)
        yield PictureFile(name=f"grey-packed-{depth}.tif", content=content, shown=as_colour(GREY), tolerance=1)
    content = saved(image, "TIFF", save_all=True, append_images=[Image.new("RGB", image.size)])
    yield PictureFile(name="pages.tif", content=content, shown=COLOUR, tolerance=1)
    fourth = tiff(np.dstack([COLOUR, ALPHA]), photometric="rgb", extrasamples=["unspecified"])
    # the tag ExtraSamples (338) becomes a private one: nothing says what the fourth band is
    unnamed = fourth.replace(struct.pack("<HHI", 338, 3, 1), struct.pack("<HHI", 65000, 3, 1))
    yield PictureFile(name="fourth-band-unnamed.tif", content=unnamed, shown=COLOUR, tolerance=1)


def packed_tiff(rows: list[bytes], depth: int) -> bytes:
    """An uncompressed grey TIFF from packed rows."""
    data = b"".join(rows)
    tags = {256: WIDTH, 257: HEIGHT, 258: depth, 259: 1, 262: 1, 273: 8, 277: 1, 278: HEIGHT, 279: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def modern() -> Iterator[PictureFile]:
    """AVIF, HEIC and JPEG XL."""
    clear = np.dstack([COLOUR, ALPHA])
    half = over_white(COLOUR, ALPHA)
    for orientation in range(1, 9):
        turned, turned_clear = stored(COLOUR, orientation), stored(clear, orientation)
        for ending, form, options in (("avif", "AVIF", {"quality": 95}), ("heic", "HEIF", {"quality": 95})):
            note = {"exif": exif(orientation)}
            content = saved(turned, form, **options, **note)
            yield PictureFile(name=f"exif-{orientation}.{ending}", content=content, shown=COLOUR, tolerance=12)
            content = saved(turned_clear, form, **options, **note)
            yield PictureFile(name=f"alpha-{orientation}.{ending}", content=content, shown=half, tolerance=12)
        content = saved(turned, "AVIF", quality=95, xmp=xmp(orientation))
        yield PictureFile(name=f"xmp-{orientation}.avif", content=content, shown=COLOUR, tolerance=12)
    other = Image.new("RGB", (WIDTH, HEIGHT))
    for form, ending in (("AVIF", "avif"), ("HEIF", "heic")):
        content = saved(COLOUR, form, quality=95, save_all=True, append_images=[other])
        yield PictureFile(name=f"several.{ending}", content=content, shown=COLOUR, tolerance=12)
    jxl: Callable[..., bytes] = lambda pixels: saved(pixels, "JXL", lossless=True)  # noqa: E731
    for kind, pixels, shown in (
        ("colour", COLOUR, COLOUR),
        ("grey", GREY, as_colour(GREY)),
        ("alpha", clear, half),
        ("grey-alpha", np.dstack([GREY, ALPHA]), over_white(GREY, ALPHA)),
        # the writer calls deep values linear, which the file's profile says
        ("grey-16", scaled(GREY, "u2"), as_colour(from_linear(GREY))),
    ):
        yield PictureFile(name=f"{kind}.jxl", content=jxl(pixels), shown=shown, tolerance=1)


def from_linear(pixels: np.ndarray) -> np.ndarray:
    """Linear light as sRGB."""
    light = pixels / 255
    return np.rint(255 * np.where(light < 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)).astype(
        np.uint8
    )


def jpeg2000s() -> Iterator[PictureFile]:
    for orientation in range(1, 9):
        content = saved(stored(COLOUR, orientation), "JPEG2000")
        for way, kind in (("exif", b"JpgTiffExif->JP2"), ("xmp", bytes.fromhex("be7acfcb97a942e89c71999491e3afac"))):
            data = kind + (exif(orientation).removeprefix(b"Exif\0\0") if way == "exif" else xmp(orientation))
            box = struct.pack(">I", len(data) + 8) + b"uuid" + data
            at = content.index(b"jp2c") - 4
            name = f"{way}-{orientation}.jp2"
            yield PictureFile(name=name, content=content[:at] + box + content[at:], shown=COLOUR, tolerance=1)
    clear = np.dstack([COLOUR, ALPHA])
    for kind, pixels, shown in (
        ("grey", GREY, as_colour(GREY)),
        ("alpha", clear, over_white(COLOUR, ALPHA)),
        ("grey-16", scaled(GREY, "u2"), as_colour(GREY)),
    ):
        yield PictureFile(name=f"{kind}.jp2", content=saved(pixels, "JPEG2000"), shown=shown, tolerance=1)
    stream = saved(COLOUR, "JPEG2000", no_jp2=True)
    yield PictureFile(name="codestream.j2k", content=stream, shown=COLOUR, tolerance=1)
