"""What does decoding an image cost on one core, and which library is fastest?

JPEG: a random crop at 224x224 pixels, as training reads it; the same with all rows decoded; decoding at an eighth of
the size, which is the file's Huffman codes alone; and Pillow's crop of the whole image. PNG and WebP: the whole image
in colour, by each library. The photographs are those of `loader_cpu.py`.

One thread, whose CPU time counts. All take turns in alternating order; the table has the mean over the images of the
least time of each, in milliseconds.

    taskset -c 0 python benchmarks/decoders.py
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import imagecodecs
import numpy as np
import simplejpeg
import torch
from loader_cpu import SIZES, write_photographs
from PIL import Image
from torchvision.io import decode_png, decode_webp

from vitral.data.augment.config import AugmentConfig
from vitral.data.augment.crop import crop_box
from vitral.data.images.jpeg import LazyJpeg

AUGMENT = AugmentConfig(crop="inception", crop_area=(0.08, 1.0))
Decoders = dict[str, Callable[[], object]]


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=32, help="of each size (default: 32)")
    parser.add_argument("--turns", type=int, default=8, help="of each decoder, for each image (default: 8)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| images | decoder | ms |\n|---|---|--:|")
    for size in SIZES:
        files = photographs(size, count=options.images)
        name = "x".join(map(str, size))
        print_rows(f"JPEG, {name}", [jpeg(file, size, index) for index, file in enumerate(files)], options.turns)
        for form, settings in {"PNG": {}, "WebP": {"quality": 90}, "lossless WebP": {"lossless": True}}.items():
            # fewer: encoding takes longer than all turns
            decoders = [others(file, form.split()[-1], **settings) for file in files[:4]]
            print_rows(f"{form}, {name}", decoders, options.turns)


def photographs(size: tuple[int, int], *, count: int) -> list[bytes]:
    """JPEGs of quality 90."""
    with tempfile.TemporaryDirectory() as folder:
        write_photographs(Path(folder), size, count=count)
        return [path.read_bytes() for path in sorted(Path(folder).rglob("*.jpg"))]


def jpeg(data: bytes, size: tuple[int, int], index: int) -> Decoders:
    """Ways to read a crop of a JPEG."""
    box = crop_box(AUGMENT, size, seed=0, epoch=0, index=index)
    edges = (round(box[0] * size[0]), round(box[1] * size[1]), round(box[2] * size[0]), round(box[3] * size[1]))

    def crop(*, all_rows: bool) -> object:
        image = LazyJpeg.open(data)
        assert image is not None
        if all_rows:
            image = replace(image, header=replace(image.header, height_at=None))
        return image.crop(box, image_size=(224, 224), interpolation="bilinear")

    def by_pillow() -> object:
        with Image.open(BytesIO(data)) as image:
            part = image.convert("RGB").crop(edges)
        return np.asarray(part.resize((224, 224), Image.Resampling.BILINEAR))

    return {
        "Vitral, below the crop left out": lambda: crop(all_rows=False),
        "Vitral, all rows": lambda: crop(all_rows=True),
        "simplejpeg at an eighth": lambda: simplejpeg.decode_jpeg(data, min_width=1, min_height=1, min_factor=8),
        "Pillow": by_pillow,
    }


def others(data: bytes, form: str, **options: object) -> Decoders:
    """Libraries that decode a PNG or WebP."""
    buffer = BytesIO()
    with Image.open(BytesIO(data)) as image:
        image.save(buffer, form, **options)
    encoded = buffer.getvalue()
    tensor = torch.frombuffer(bytearray(encoded), dtype=torch.uint8)
    by_torchvision = decode_png if form == "PNG" else decode_webp
    by_imagecodecs = imagecodecs.png_decode if form == "PNG" else imagecodecs.webp_decode

    def by_pillow() -> object:
        with Image.open(BytesIO(encoded)) as image:
            return np.asarray(image.convert("RGB"))

    return {
        "Pillow": by_pillow,
        "torchvision": lambda: by_torchvision(tensor),
        "imagecodecs": lambda: by_imagecodecs(encoded),
    }


def print_rows(title: str, images: list[Decoders], turns: int) -> None:
    """A row for each decoder."""
    total = dict.fromkeys(images[0], 0.0)
    for decoders in images:
        least = dict.fromkeys(decoders, float("inf"))
        for turn in range(turns):
            for name in sorted(decoders, reverse=turn % 2 == 0):
                start = time.process_time()
                decoders[name]()
                least[name] = min(least[name], time.process_time() - start)
        for name, seconds in least.items():
            total[name] += 1000 * seconds / len(images)
    for name, milliseconds in total.items():
        print(f"| {title} | {name} | {milliseconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
