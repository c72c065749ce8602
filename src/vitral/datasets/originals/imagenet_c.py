"""ImageNet-C: the validation images with fifteen corruptions at five severities (arXiv 1903.12261)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vitral.datasets.originals.imagenet_tests import TestSet, open_by_name
from vitral.errors import UserError

__all__ = ["CORRUPTIONS", "SEVERITIES", "Corruption", "find_corruption", "open_corruption"]

SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """One kind of corruption."""

    name: str
    """Of its folder."""
    group: str
    """Of the authors' archive."""
    alexnet: float
    """AlexNet's error on it, as a fraction: the mean over severities."""

    @property
    def title(self) -> str:
        """Its name in words."""
        return self.name.replace("_", " ")


_ALEXNET: dict[str, dict[str, float]] = {
    "noise": {"gaussian_noise": 0.886428, "shot_noise": 0.894468, "impulse_noise": 0.922640},
    "blur": {"defocus_blur": 0.819880, "glass_blur": 0.826268, "motion_blur": 0.785948, "zoom_blur": 0.798360},
    "weather": {"snow": 0.866816, "frost": 0.826572, "fog": 0.819324, "brightness": 0.564592},
    "digital": {
        "contrast": 0.853204,
        "elastic_transform": 0.646056,
        "pixelate": 0.717840,
        "jpeg_compression": 0.606500,
    },
}

CORRUPTIONS = tuple(
    Corruption(name=name, group=group, alexnet=error)
    for group, errors in _ALEXNET.items()
    for name, error in errors.items()
)
"""All corruptions of the mean corruption error, in the order of the paper's tables."""


def find_corruption(root: Path, corruption: Corruption) -> Path | None:
    """Its folder: `gaussian_noise`, or `noise/gaussian_noise`; None if there is neither."""
    places = (root / corruption.name, root / corruption.group / corruption.name)
    return next((place for place in places if place.is_dir()), None)


def open_corruption(folder: Path, severity: int, identifiers: Sequence[str]) -> TestSet:
    """The images of one severity, in folders named by WordNet identifier.

    Args:
        folder: of the corruption.
        severity: 1 to 5.
        identifiers: WordNet identifier of each of ImageNet's classes, in order.

    Raises:
        UserError: the folder of the severity is missing, or has other classes.
    """
    if not (folder / str(severity)).is_dir():
        raise UserError(f"{folder} has no folder {severity}, and needs 1 to 5, one for each severity: unpack it again")
    return open_by_name(str(severity), few=False)(folder, identifiers)
