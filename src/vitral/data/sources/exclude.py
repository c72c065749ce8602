"""Lists of images to exclude: one name per line, relative to the data's root if the image is inside it.

A CSV file has names in its column `image`, and `yes` in its column `exclude` for those to exclude.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from vitral.data.sources.label_tables import LABEL_SUFFIXES
from vitral.data.sources.source import Source, Subset
from vitral.errors import UserError
from vitral.files import with_formula, write_atomically

__all__ = ["exclude_images", "relative_name", "write_list"]


def relative_name(name: str, root: Path | None) -> str:
    """An image's name in a list, relative to the root so that the list stays valid if the data moves.

    The images of a label file are beside it or below.
    """
    if root is None:
        return name
    folder = root.parent if root.suffix.lower() in LABEL_SUFFIXES else root
    return name.removeprefix(f"{folder}/")


def write_list(path: Path, names: Iterable[str], *, root: Path | None) -> None:
    """Writes the names of images (from `Source.name`), sorted.

    Raises:
        OSError: the file cannot be written.
    """
    lines = sorted(relative_name(name, root) for name in names)
    write_atomically(path, lambda file: file.write("".join(f"{line}\n" for line in lines).encode(errors=SURROGATES)))


def exclude_images(splits: Mapping[str, Source], path: Path, *, root: Path | None) -> dict[str, Source]:
    """The splits without the images in a list.

    Raises:
        UserError: the list does not exist, names an image that no split has, or names all images of a split.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: give an existing list of images as --data.exclude")
    unseen = excluded = _listed(path)
    remaining: dict[str, Source] = {}
    for split, source in splits.items():
        names = [relative_name(source.name(index), root) for index in range(len(source))]
        indices = np.flatnonzero([name not in excluded for name in names])
        if len(indices) == 0:
            raise UserError(f"{path} names every {split} image: shorten the list")
        unseen = unseen.difference(names)
        remaining[split] = source if len(indices) == len(source) else Subset(source=source, indices=indices)
    if unseen:
        raise UserError(
            f"{path} lists {min(unseen)}, which the data does not have: does the list belong to other data?"
        )
    return remaining


def _listed(path: Path) -> frozenset[str]:
    """The names in a list.

    Raises:
        UserError: a CSV file has no columns image and exclude.
    """
    text = path.read_text(encoding="utf-8-sig", errors=SURROGATES)  # a spreadsheet may have written it
    if path.suffix.lower() != ".csv" or "," not in text.partition("\n")[0]:  # --write may have any ending
        return frozenset(line for line in text.splitlines() if line.strip())
    rows = csv.DictReader(io.StringIO(text, newline=""))
    if not {"image", "exclude"} <= set(rows.fieldnames or ()):
        raise UserError(f"{path} has no columns image and exclude: give a CSV file of vitral data check --csv")
    return frozenset(with_formula(row["image"]) for row in rows if (row["exclude"] or "").strip().lower() == "yes")


SURROGATES = "surrogateescape"
"""Error handler that preserves the bytes of file names that are not valid text."""
