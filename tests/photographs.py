"""Small image folders made of real photographs, in every file form that people have."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image
from sklearn.datasets import load_sample_image

__all__ = ["CLASSES", "FORMS", "add_unreadable_files", "png_header", "write_photographs"]

PHOTOGRAPHS: dict[str, Callable[[], np.ndarray]] = {
    # all come with scikit-learn and scikit-image; nothing is fetched
    "astronaut": skimage.data.astronaut,
    "cat": skimage.data.chelsea,
    "china": lambda: load_sample_image("china.jpg"),
    "coffee": skimage.data.coffee,
    "flower": lambda: load_sample_image("flower.jpg"),
    "rocket": skimage.data.rocket,
}

CLASSES = tuple(PHOTOGRAPHS)
"""One class a photograph, sorted."""


def _rotated_jpeg(crop: Image.Image, path: Path) -> None:
    """Stored lying on its side, with the note that turns it upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    crop.transpose(Image.Transpose.ROTATE_90).save(path, quality=92, exif=exif)


def _palette_png(crop: Image.Image, path: Path) -> None:
    """255 colours and one that is transparent, in the corner."""
    image = crop.quantize(255)
    image.putpalette([*image.getpalette()[: 3 * 255], 0, 0, 0])
    image.paste(255, (0, 0, 4, 4))
    image.save(path, transparency=255)


def _deep_grey_png(crop: Image.Image, path: Path) -> None:
    deep = np.asarray(crop.convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(path)


def _see_through_png(crop: Image.Image, path: Path) -> None:
    """Fades out towards the left edge."""
    image = crop.convert("RGBA")
    alpha = np.minimum(np.arange(crop.width) * 16, 255).astype(np.uint8)
    image.putalpha(Image.fromarray(np.tile(alpha, (crop.height, 1))))
    image.save(path)


FORMS: dict[str, Callable[[Image.Image, Path], None]] = {
    "plain.jpg": lambda crop, path: crop.save(path, quality=92),
    "plain.png": lambda crop, path: crop.save(path),
    "plain.webp": lambda crop, path: crop.save(path, quality=92),
    "plain.bmp": lambda crop, path: crop.save(path),
    "plain.tiff": lambda crop, path: crop.save(path),
    "plain.gif": lambda crop, path: crop.quantize(256).save(path),
    "rotated.jpeg": _rotated_jpeg,
    "cmyk.JPG": lambda crop, path: crop.convert("CMYK").save(path, quality=92),
    "palette.png": _palette_png,
    "deep-grey.png": _deep_grey_png,
    "see-through.png": _see_through_png,
    "grey.jpg": lambda crop, path: crop.convert("L").save(path, quality=92),
}
"""How a crop is written, by the end of its file's name."""


def write_photographs(root: Path, *, seed: int = 0, per_class: int = len(FORMS)) -> Path:
    """Writes `per_class` crops of each photograph into `root/CLASS`, in all forms by turns; returns `root`.

    Crops differ in place, size and proportions; the same seed gives the same files.
    """
    rng = np.random.default_rng(seed)
    forms = list(FORMS.items())
    for label, (name, photograph) in enumerate(PHOTOGRAPHS.items()):
        folder = root / name
        folder.mkdir(parents=True)
        whole = Image.fromarray(photograph())
        for number in range(per_class):
            width, height = (int(size) for size in rng.integers(72, 200, 2))
            left, top = int(rng.integers(whole.width - width)), int(rng.integers(whole.height - height))
            ending, write = forms[(label + number) % len(forms)]
            write(whole.crop((left, top, left + width, top + height)), folder / f"{number:03d}-{ending}")
    return root


def add_unreadable_files(root: Path) -> list[Path]:
    """Adds three files to the first class that are named like images and cannot be read; returns them, sorted."""
    folder = root / CLASSES[0]
    stream = BytesIO()
    Image.fromarray(PHOTOGRAPHS[CLASSES[0]]()).crop((0, 0, 160, 120)).save(stream, "JPEG")
    whole = stream.getvalue()
    contents = {"broken-cut.jpg": whole[: len(whole) // 2], "broken-empty.jpg": b"", "broken-text.png": b"a cat\n"}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return sorted(folder / name for name in contents)


def png_header(width: int, height: int) -> bytes:
    """A file of a few bytes that announces an image of any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
