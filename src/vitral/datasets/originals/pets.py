"""Oxford-IIIT Pets."""

from pathlib import Path

import numpy as np

from vitral.data.sources.source import FileSource, Source
from vitral.datasets.originals.files import find_folder, read_lines
from vitral.errors import UserError

__all__ = ["open_pets"]


def open_pets(root: Path) -> dict[str, Source]:
    """Oxford-IIIT Pets: `images/*.jpg`, and the lists `annotations/trainval.txt` and `test.txt`.

    A line is `Abyssinian_100 1 1 1`: the image, and its class counted from 1.

    Raises:
        UserError: files are missing or damaged.
    """
    folder = find_folder(root, "annotations/trainval.txt", "oxford-iiit-pet")
    lists = {split: read_lines(folder / "annotations" / f"{name}.txt") for split, name in PETS_LISTS.items()}
    try:
        numbered = {
            split: [(line.split()[0], int(line.split()[1])) for line in listed] for split, listed in lists.items()
        }
    except (IndexError, ValueError):
        raise UserError(f"{folder}/annotations has lines unlike `Abyssinian_100 1 1 1`: download it again") from None
    breeds = {number: image.rpartition("_")[0] for pairs in numbered.values() for image, number in pairs}
    classes = tuple(breeds[number] for number in sorted(breeds))
    if sorted(breeds) != list(range(1, len(breeds) + 1)):
        raise UserError(f"{folder}/annotations does not number its classes from 1: download it again")
    return {
        split: FileSource(
            root=folder,
            files=tuple(f"images/{image}.jpg" for image, _ in pairs),
            labels=np.array([number for _, number in pairs], np.int64) - 1,
            classes=classes,
        )
        for split, pairs in numbered.items()
    }


PETS_LISTS = {"train": "trainval", "test": "test"}
