"""Fashion-MNIST (Xiao et al., arXiv 1708.07747)."""

from pathlib import Path

from vitral.data.config import DataConfig
from vitral.data.sources.files import open_idx
from vitral.data.sources.source import Source

__all__ = ["open_fashion_mnist"]


def open_fashion_mnist(root: Path) -> dict[str, Source]:
    """Fashion-MNIST's four IDX files.

    Raises:
        UserError: files are missing or damaged.
    """
    return open_idx(DataConfig(source="idx", root=root, class_names=CLASSES))


CLASSES = (
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
