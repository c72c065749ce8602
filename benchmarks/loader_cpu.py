"""How many training images per second does one core read? Vitral, torchvision and timm on the same JPEGs.

Random crops resized to 224x224 pixels, flips, normalised floats at the end, batches of 64, one thread. Its CPU time
counts, so that other processes disturb little; all files are in the system's memory. The photographs are scikit-learn's
and scikit-image's, cropped and resized to 500x375 and 1600x1200 pixels, with JPEG quality 90 or another. The loaders
alternate; the table has the median of the rounds, and its ratio to the faster of torchvision and timm.

    taskset -c 0 python benchmarks/loader_cpu.py

Is Vitral as fast as it was? With --against, another checkout of Vitral reads the same images in turns with this one,
each turn in a process of its own; the table has the median of the turns, and of the ratios of neighbouring turns.

    git worktree add /tmp/before COMMIT
    taskset -c 0 python benchmarks/loader_cpu.py --against /tmp/before
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import timm.data
import torch
from PIL import Image
from skimage import data as photographs
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from vitral.data.augment.apply import augment_batch
from vitral.data.augment.config import AugmentConfig
from vitral.data.batches import TrainingBatches, load
from vitral.data.config import DataConfig
from vitral.data.images.preprocess import Preprocessing
from vitral.data.sources.source import Source
from vitral.data.tools.pack import PackConfig, pack
from vitral.datasets.opening import open_data, open_stored

SIZES = ((500, 375), (1600, 1200))
BATCH = 64
TURN_ROUNDS = 3
"""Timed rounds of each turn."""

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=192, help="images of each size (default: 192)")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds (default: 5)")
    parser.add_argument("--quality", type=int, default=90, help="of the JPEGs (default: 90)")
    parser.add_argument("--against", type=Path, help="another checkout of Vitral, to compare with")
    parser.add_argument("--turn", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.turn is not None:
        times = time_rounds(vitral_loaders(options.turn), rounds=TURN_ROUNDS, count=options.images)
        print(json.dumps(times))
        return
    if options.against is not None:
        compare(options.against, images=options.images, turns=options.rounds, quality=options.quality)
        return
    print("| images | loader | images/s | ratio to the faster peer |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            root = Path(folder) / "x".join(map(str, size))
            write_photographs(root, size, count=options.images, quality=options.quality)
            times = time_rounds(loaders(root), rounds=options.rounds, count=options.images)
            best = min(times["torchvision"], times["timm"])
            for name, seconds in times.items():
                rate, ratio = options.images / seconds, best / seconds
                print(f"| {size[0]}x{size[1]} | {name} | {rate:,.0f} | {ratio:.2f} |", flush=True)


def compare(other: Path, *, images: int, turns: int, quality: int) -> None:
    """Prints a Markdown table of this checkout and another.

    Args:
        other: the root of the other checkout.
        images: of each size.
        turns: of each checkout.
        quality: of the JPEGs.
    """
    trees = {"this": Path(__file__).parents[1], "other": other}
    print("| images | loader | this, images/s | other, images/s | ratio |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            root = Path(folder) / "x".join(map(str, size))
            write_photographs(root, size, count=images, quality=quality)
            pack_photographs(root)
            seconds: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
            for number in range(turns):
                # who is first alternates, as a machine becomes slower or faster
                for name in sorted(trees, reverse=number % 2 == 0):
                    seconds[name].append(turn(trees[name], root, images=images))
            for loader in seconds["this"][0]:
                this, before = ([times[loader] for times in seconds[name]] for name in trees)
                ratio = median(b / t for t, b in zip(this, before, strict=True))
                rates = f"{images / median(this):,.0f} | {images / median(before):,.0f}"
                print(f"| {size[0]}x{size[1]} | {loader} | {rates} | {ratio:.3f} |", flush=True)


def turn(tree: Path, root: Path, *, images: int) -> dict[str, float]:
    """Seconds of the loaders of a checkout, in a process of its own."""
    command = [sys.executable, __file__, "--turn", str(root), "--images", str(images)]
    environment = os.environ | {"PYTHONPATH": str(tree.resolve() / "src")}
    return json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout)


def write_photographs(root: Path, size: tuple[int, int], *, count: int, quality: int = 90) -> None:
    """A folder of two classes: random crops of real photographs, with the detail of a photograph of this size."""
    originals = [
        *load_sample_images().images,
        *(getattr(photographs, name)() for name in ("astronaut", "coffee", "cat")),
    ]
    random = np.random.default_rng(0)
    for number in range(count):
        image = Image.fromarray(originals[number % len(originals)])
        scale = random.uniform(0.7, 1.0)
        width, height = scale * image.width, scale * image.height
        left, top = random.uniform(0, image.width - width), random.uniform(0, image.height - height)
        part = image.resize(size, Image.Resampling.LANCZOS, (left, top, left + width, top + height))
        file = root / ("even" if number % 2 == 0 else "odd") / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        part.save(file, quality=quality)


def loaders(root: Path) -> dict[str, Callable[[], Iterator[object]]]:
    """Functions that read all images of a folder once, by name."""
    normalise = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])
    crops = v2.Compose([v2.RandomResizedCrop(224), v2.RandomHorizontalFlip(), normalise])
    torchvision_loader = DataLoader(ImageFolder(root, transform=crops), batch_size=BATCH, shuffle=True)
    timm_loader = timm.data.create_loader(
        timm.data.create_dataset("", root=str(root)), (3, 224, 224), BATCH, is_training=True, mean=MEAN, std=STD,
        use_prefetcher=False, color_jitter=None, interpolation="bilinear", num_workers=0, persistent_workers=False,
    )  # fmt: skip
    pack_photographs(root)
    return {
        "torchvision": lambda: iter(torchvision_loader),
        "timm": lambda: iter(timm_loader),
        **vitral_loaders(root),
    }


def packed_copy(root: Path) -> Path:
    """Where a folder's packed copy is."""
    return root.with_name(f"{root.name}-packed")


def pack_photographs(root: Path) -> None:
    """Writes a folder's packed copy."""
    settings = PackConfig(short_side=384)
    pack(every_image(root), packed_copy(root), settings, root=root, threads=1, advance=lambda _: None)


def vitral_loaders(root: Path) -> dict[str, Callable[[], Iterator[object]]]:
    """Functions of Vitral alone that read all images of a folder, and of its packed copy, once."""
    packed = packed_copy(root)
    return {
        "Vitral, folder": lambda: vitral_batches(DataConfig(source="folder", root=root, test_fraction=1e-9)),
        "Vitral, packed at 384": lambda: vitral_batches(DataConfig(source="hub", root=packed, test_fraction=1e-9)),
    }


def every_image(root: Path) -> dict[str, Source]:
    """The folder's images as the only split."""
    return open_stored(DataConfig(source="folder", root=root))


def vitral_batches(config: DataConfig) -> Iterator[object]:
    """One epoch as in a training step: cropped, flipped, normalised."""
    source = open_data(config)["train"]
    preprocessing = Preprocessing(image_size=(224, 224), channels=3)
    augment = AugmentConfig(crop="inception", crop_area=(0.08, 1.0), flip=True)
    batches = TrainingBatches(source=source, preprocessing=preprocessing, augment=augment, batch_size=BATCH, seed=0)
    for batch in load(batches, range(-(-len(source) // BATCH)), workers=0, pin=False):
        assert batch.augment_params is not None
        yield augment_batch(
            batch.images, batch.labels, batch.augment_params, config=augment, preprocessing=preprocessing
        )


def time_rounds(loaders: dict[str, Callable[[], Iterator[object]]], *, rounds: int, count: int) -> dict[str, float]:
    """Median seconds of each loader; the first round is a warmup."""
    seconds: dict[str, list[float]] = {name: [] for name in loaders}
    for number in range(rounds + 1):
        for name, loader in loaders.items():
            start = time.process_time()
            num_batches = sum(1 for _ in loader())
            assert num_batches >= count // BATCH, f"{name} gave {num_batches} batches"
            if number:
                seconds[name].append(time.process_time() - start)
    return {name: median(times) for name, times in seconds.items()}


if __name__ == "__main__":
    main()
