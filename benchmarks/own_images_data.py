"""Folders of images for `own_images.py`, made of what package registries have.

    python benchmarks/own_images_data.py OUT --emoji package --icons /usr/share/icons/oxygen/base/64x64

`--emoji` is the npm package emoji-datasource-google (unpacked), `--icons` a size of Debian's oxygen-icon-theme. The
others come with scikit-learn, scikit-image, Matplotlib and Debian's dataset-fashion-mnist.
"""

import argparse
import json
from pathlib import Path

import matplotlib
import numpy as np
import skimage
import sklearn
from PIL import Image
from sklearn.datasets import load_digits

from vitral.data.config import DataConfig
from vitral.data.sources.source import read_from
from vitral.datasets.opening import open_data

PHOTOGRAPHS = (
    (sklearn, "datasets/images/china.jpg"),
    (sklearn, "datasets/images/flower.jpg"),
    (matplotlib, "mpl-data/sample_data/grace_hopper.jpg"),
    *((skimage, f"data/{name}") for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")),
    *((skimage, f"data/{name}") for name in ("hubble_deep_field.jpg", "retina.jpg")),
)

CROPS, CROP_SIZE = 120, 128

SAMPLED = 2_000
"""Images of Fashion-MNIST."""

FEWEST = 10
"""Icons of a category that is kept."""


def save(image: Image.Image, out: Path, label: str, name: str) -> None:
    """Writes one image as PNG into the folder of its class."""
    folder = out / label.replace(" & ", "-").lower()
    folder.mkdir(parents=True, exist_ok=True)
    image.save(folder / f"{name}.png")


def emoji(package: Path, out: Path) -> None:
    """Emoji of 64 pixels by group, with their skin tones."""
    for entry in json.loads((package / "emoji.json").read_text()):
        if entry["category"] == "Component":
            continue
        for form in (entry, *entry.get("skin_variations", {}).values()):
            file = package / "img/google/64" / form["image"]
            if file.exists():
                save(Image.open(file), out, entry["category"], file.stem)


def icons(theme: Path, out: Path) -> None:
    """Icons by category."""
    for folder in sorted(theme.iterdir()):
        files = sorted(file for file in folder.glob("*.png") if not file.is_symlink())  # links show the same icon again
        if len(files) >= FEWEST:
            for file in files:
                save(Image.open(file), out, folder.name, file.stem)


def crops(out: Path) -> None:
    """Random squares of photographs, by photograph; they overlap."""
    generator = np.random.default_rng(0)
    for package, path in PHOTOGRAPHS:
        photograph = Image.open(Path(str(package.__file__)).parent / path).convert("RGB")
        for number in range(CROPS):
            side = int(generator.integers(96, 257))
            x, y = (int(generator.integers(0, length - side + 1)) for length in photograph.size)
            square = photograph.crop((x, y, x + side, y + side)).resize((CROP_SIZE, CROP_SIZE))
            save(square, out, Path(path).stem, f"{number:03d}")


def fashion(out: Path) -> None:
    """The first images of Fashion-MNIST."""
    source = open_data(DataConfig(source="fashion-mnist", root=Path("/usr/share/datasets/fashion-mnist")))["train"]
    for index in range(SAMPLED):
        image = read_from(source, index, channels=1)
        save(image, out, source.classes[int(source.labels[index])].replace("/", "-"), f"{index:05d}")


def digits(out: Path) -> None:
    """Scikit-learn's digits of 8 pixels."""
    data = load_digits()
    for index, (image, label) in enumerate(zip(data.images, data.target, strict=True)):
        save(Image.fromarray((image * 255 / 16).astype(np.uint8)), out, str(label), f"{index:04d}")


def main() -> None:
    """Writes each folder that is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--emoji", type=Path)
    parser.add_argument("--icons", type=Path)
    options = parser.parse_args()
    if options.emoji and not (options.out / "emoji").exists():
        emoji(options.emoji, options.out / "emoji")
    if options.icons and not (options.out / "icons").exists():
        icons(options.icons, options.out / "icons")
    for make in (crops, fashion, digits):
        if not (options.out / make.__name__).exists():
            make(options.out / make.__name__)
    for folder in sorted(options.out.iterdir()):
        print(folder.name, f"{len(list(folder.rglob('*.png'))):,} images of {len(list(folder.iterdir()))} classes")


if __name__ == "__main__":
    main()
