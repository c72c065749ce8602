"""Data sets by name: where they come from, their splits, and how the paper held images out."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vitral.data.config import DataConfig
from vitral.data.sources.files import open_idx
from vitral.data.sources.source import Source
from vitral.data.sources.tables import open_tables
from vitral.datasets.originals.cifar import open_cifar10, open_cifar100
from vitral.datasets.originals.flowers import open_flowers
from vitral.datasets.originals.imagenet import open_imagenet1k, open_imagenet21k
from vitral.datasets.originals.pets import open_pets
from vitral.errors import UserError

__all__ = ["PRESETS", "Preset", "open_preset"]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One data set."""

    title: str
    num_classes: int
    num_images: dict[str, int]
    """Images of each split, complete."""
    needs: str
    """The files that `--data.root` must hold."""
    origin: str
    """Where the authors give them out."""
    open: Callable[[Path], dict[str, Source]]
    """Opens the authors' files."""
    hub: str | None = None
    """Its name on the Hugging Face Hub, where it is there with these splits."""
    tables: dict[str, Any] = field(default_factory=dict)
    """How to read it there: values of a `DataConfig`."""
    val_share: float | None = None
    """Share of the training images that the paper chose its learning rate on."""
    remark: str = ""

    @property
    def wanted(self) -> str:
        """The files that its folder must hold and where to get them, in words."""
        return f"{self.title} needs {self.needs}, from {self.origin}"

    def opened(self, root: Path) -> dict[str, Source]:
        """What `open` gives.

        Raises:
            UserError: files are missing or damaged; the sentence ends with what is needed, and where that comes from.
        """
        try:
            return self.open(root)
        except UserError as error:
            raise UserError(f"{error}; {self.wanted}") from None


def open_preset(config: DataConfig) -> dict[str, Source]:
    """Opens a data set by name, from the authors' files in `root`, or from the Hub where there is no `root`.

    Raises:
        UserError: files are missing or damaged, or the Hub cannot be reached.
    """
    preset = PRESETS[config.source]
    if config.class_names:
        raise UserError(f"--data.source {config.source} names its classes itself: leave out --data.class-names")
    if config.root is not None:
        if not config.root.is_dir():
            raise UserError(f"{config.root} is no folder: {preset.wanted}")
        return preset.opened(config.root)
    if preset.hub is None:
        raise UserError(f"{preset.title} needs --data.root, a folder with {preset.needs}, from {preset.origin}")
    try:
        return open_tables(replace(config, source="hub", root=Path(preset.hub), **preset.tables))
    except UserError as error:
        raise UserError(f"{error}; or give --data.root, a folder with {preset.needs}, from {preset.origin}") from error


def _open_fashion_mnist(root: Path) -> dict[str, Source]:
    return open_idx(DataConfig(source="idx", root=root, class_names=FASHION_MNIST))


FASHION_MNIST = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)

PRESETS = {
    "cifar10": Preset(
        title="CIFAR-10",
        num_classes=10,
        num_images={"train": 50_000, "test": 10_000},
        needs="data_batch_1.bin to data_batch_5.bin, test_batch.bin and batches.meta.txt (the binary version)",
        origin="https://www.cs.toronto.edu/~kriz/cifar.html",
        open=open_cifar10,
        hub="uoft-cs/cifar10",
        tables={"image_column": "img", "label_column": "label"},
        val_share=0.02,
    ),
    "cifar100": Preset(
        title="CIFAR-100",
        num_classes=100,
        num_images={"train": 50_000, "test": 10_000},
        needs="train.bin, test.bin and fine_label_names.txt (the binary version)",
        origin="https://www.cs.toronto.edu/~kriz/cifar.html",
        open=open_cifar100,
        hub="uoft-cs/cifar100",
        tables={"image_column": "img", "label_column": "fine_label"},
        val_share=0.02,
    ),
    "fashion-mnist": Preset(
        title="Fashion-MNIST",
        num_classes=10,
        num_images={"train": 60_000, "test": 10_000},
        needs="train-images-idx3-ubyte, train-labels-idx1-ubyte and the two of t10k, or each with .gz",
        origin="https://github.com/zalandoresearch/fashion-mnist",
        open=_open_fashion_mnist,
        hub="zalando-datasets/fashion_mnist",
        remark="Debian's package dataset-fashion-mnist brings it into /usr/share/datasets/fashion-mnist.",
    ),
    "flowers": Preset(
        title="Oxford Flowers-102",
        num_classes=102,
        num_images={"train": 1_020, "val": 1_020, "test": 6_149},
        needs="jpg/, imagelabels.mat and setid.mat",
        origin="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
        open=open_flowers,
        remark="The paper chose its learning rate on a tenth of the training images; here the authors' own validation "
        "images serve, ten of each class.",
    ),
    "imagenet1k": Preset(
        title="ImageNet (ILSVRC-2012)",
        num_classes=1_000,
        num_images={"train": 1_281_167, "test": 50_000},
        needs="train/ with one folder a class, and val/ in such folders or beside ILSVRC2012_devkit_t12/",
        origin="https://image-net.org/challenges/LSVRC/2012/",
        open=open_imagenet1k,
        hub="ILSVRC/imagenet-1k",
        tables={"image_column": "image", "label_column": "label", "splits": ("train=train", "test=validation")},
        val_share=0.01,
        remark="The official validation images are the test split, as in the paper.",
    ),
    "imagenet21k": Preset(
        title="ImageNet-21k",
        num_classes=21_843,
        num_images={"train": 14_197_122},
        needs="one folder a class, such as n00004475/",
        origin="https://image-net.org/download-images.php",
        open=open_imagenet21k,
        remark="It has no splits: --data.held-out says what share of every class is tested on. Tar shards of it are "
        "read by --data.source tars.",
    ),
    "pets": Preset(
        title="Oxford-IIIT Pets",
        num_classes=37,
        num_images={"train": 3_680, "test": 3_669},
        needs="images/, annotations/trainval.txt and annotations/test.txt",
        origin="https://www.robots.ox.ac.uk/~vgg/data/pets/",
        open=open_pets,
        hub="timm/oxford-iiit-pet",
        tables={"image_column": "image", "label_column": "label"},
        val_share=0.1,
    ),
}
"""Every data set by the name that `--data.source` knows it by."""
