"""The images of a parity report."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image
from torch import Tensor

from vitral.data.images.decode import UnreadableImage
from vitral.data.images.preprocess import AnyImage, PixelBatch, Preprocessing
from vitral.data.sources.source import ArraySource, FileSource, Source
from vitral.errors import UserError

__all__ = ["UNKNOWN", "ImageBatch", "ReferenceImages", "from_files", "photographs"]

UNKNOWN = -1
"""Label of an image whose class is not known."""

NUM_CROPS, CROP = 48, 192
"""How many squares are cut from the photographs, and their height and width in pixels."""


@dataclass(frozen=True, kw_only=True)
class ImageBatch:
    """The same images twice."""

    pixels: PixelBatch
    """As the model's preprocessing resizes them."""
    whole: tuple[UInt8[Tensor, "_h _w c"], ...]
    """As they are; none for images that are no pictures."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceImages:
    """Images to compare, read on access."""

    title: str
    """Which they are, for the report."""
    source: Source
    """Images and labels; a label may be `UNKNOWN`."""
    indices: Int64[np.ndarray, " n"]
    """Which of the source."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Error of each image that was skipped, by its name."""

    @classmethod
    def of(cls, title: str, source: Source, *, most: int) -> "ReferenceImages":
        """At most `most` images of a source, evenly spaced."""
        count = min(len(source), most)
        return cls(title=title, source=source, indices=np.linspace(0, len(source) - 1, count).round().astype(np.int64))

    def batches(
        self, preprocessing: Preprocessing, size: int, *, limit: int | None = None, same_size: bool = False
    ) -> Iterator[tuple[ImageBatch, Int64[Tensor, " b"]]]:
        """Batches and labels, in order.

        Args:
            preprocessing: of the model.
            size: images in a batch; the last may have fewer.
            limit: the first so many images only.
            same_size: whether the images of a batch are resized to the size of its first one.

        Raises:
            UserError: no image can be read.
        """
        chosen = self.indices[:limit]
        read = 0
        for start in range(0, len(chosen), size):
            images, labels = [], []
            for index in chosen[start : start + size].tolist():
                image = self._read(index, preprocessing)
                if image is not None:
                    is_picture = isinstance(image, Image.Image)
                    images.append(image.resize(images[0].size) if is_picture and same_size and images else image)
                    labels.append(UNKNOWN if self.source.labels.ndim > 1 else int(self.source.labels[index]))
            read += len(images)
            if images:
                pixels = torch.from_numpy(np.stack([preprocessing.pixels(image) for image in images]))
                whole = tuple(torch.from_numpy(_array(image)) for image in images if isinstance(image, Image.Image))
                yield ImageBatch(pixels=pixels, whole=whole), torch.tensor(labels)
        if not read:
            raise UserError(f"no image of {self.title} can be read: {next(iter(self.unreadable.values()), 'none')}")

    def _read(self, index: int, preprocessing: Preprocessing) -> AnyImage | None:
        try:
            return preprocessing.read(self.source.stored(index), name=self.source.name(index))
        except UnreadableImage as error:
            self.unreadable[self.source.name(index)] = str(error)
            return None


def from_files(files: list[str], *, title: str, classes: tuple[str, ...], most: int) -> ReferenceImages:
    """Image files; a file in a folder with the name of a class has that label.

    Args:
        files: their paths.
        title: of the whole.
        classes: the model's.
        most: at most so many, evenly spaced.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([numbers.get(Path(file).parent.name, UNKNOWN) for file in files], np.int64)
    source = FileSource(root=Path(), files=files, labels=labels, classes=classes)
    return ReferenceImages.of(title, source, most=most)


def photographs(*, seed: int = 0) -> ReferenceImages:
    """Squares cut at random from the photographs that come with scikit-learn, and with scikit-image if it is there."""
    from sklearn.datasets import load_sample_image

    whole = [load_sample_image("china.jpg"), load_sample_image("flower.jpg")]
    origin = "scikit-learn's"
    if find_spec("skimage"):
        from skimage import data

        whole += [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]
        origin = "scikit-image's"
    rng = np.random.default_rng(seed)
    crops = []
    for number in range(NUM_CROPS):
        image = whole[number % len(whole)]
        top, left = (int(rng.integers(length - CROP + 1)) for length in image.shape[:2])
        crops.append(image[top : top + CROP, left : left + CROP])
    labels = np.full(NUM_CROPS, UNKNOWN, np.int64)
    title = f"{origin} photographs"
    source = ArraySource(title=title, images=np.stack(crops), labels=labels, classes=())
    return ReferenceImages.of(title, source, most=NUM_CROPS)


def _array(image: Image.Image) -> UInt8[np.ndarray, "h w c"]:
    pixels = np.array(image)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
