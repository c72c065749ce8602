"""Lists of images to leave out: one name a line, from the data's root where the image lies inside."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from vitral.data.sources.source import Source, Subset
from vitral.errors import UserError
from vitral.files import write_atomically

__all__ = ["listed_name", "without", "write_list"]


def listed_name(name: str, root: Path | None) -> str:
    """What a list calls an image, so that it still fits when the data has been moved."""
    return name if root is None else name.removeprefix(f"{root}/")


def write_list(path: Path, names: Iterable[str], *, root: Path | None) -> None:
    """Writes names of images as `Source.name` gives them, sorted.

    Raises:
        OSError: the file cannot be written.
    """
    lines = sorted(listed_name(name, root) for name in names)
    write_atomically(path, lambda file: file.write("".join(f"{line}\n" for line in lines).encode(errors=SURROGATES)))


def without(splits: Mapping[str, Source], path: Path, *, root: Path | None) -> dict[str, Source]:
    """The splits without the images that a list names.

    Raises:
        UserError: there is no such list, it names an image that no split has, or nothing would be left of a split.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: give the list of images to leave out as --data.exclude")
    text = path.read_text(encoding="utf-8", errors=SURROGATES)
    unseen = unwanted = frozenset(line for line in text.splitlines() if line.strip())
    kept: dict[str, Source] = {}
    for split, source in splits.items():
        names = [listed_name(source.name(index), root) for index in range(len(source))]
        indices = np.flatnonzero([name not in unwanted for name in names])
        if len(indices) == 0:
            raise UserError(f"{path} names every {split} image: shorten the list")
        unseen = unseen.difference(names)
        kept[split] = source if len(indices) == len(source) else Subset(source=source, indices=indices)
    if unseen:
        raise UserError(f"{path} lists {min(unseen)}, which the data does not have: is the list of other data?")
    return kept


SURROGATES = "surrogateescape"
"""A file's name that is no text keeps its bytes."""
