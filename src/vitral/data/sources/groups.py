"""Groups of images that belong on one side of a split: of one patient, burst or video."""

import re

import numpy as np
from jaxtyping import Int64

from vitral.data.config import DataConfig
from vitral.data.notes import note_once
from vitral.data.sources.source import FileSource, Source
from vitral.errors import UserError

__all__ = ["find_groups"]


def find_groups(splits: dict[str, Source], config: DataConfig) -> Int64[np.ndarray, " n"] | None:
    """The number of each training image's group; None if the configuration asks for no groups.

    Groups are numbered in the order of their names. An image without a group is one of its own. Notes groups that the
    data's own splits divide.

    Raises:
        UserError: the source has no such column, or the pattern matches no image.
    """
    if config.group_column is None and config.group_pattern is None:
        return None
    names = {split: _names(split, source, config) for split, source in splits.items()}
    _note_divided(names, config)
    train = names["train"]
    single = [name is None for name in train]
    known = sorted({name for name in train if name is not None})
    numbers = {name: number for number, name in enumerate(known)}
    groups = np.array([-1 if name is None else numbers[name] for name in train], np.int64)
    groups[np.array(single, bool)] = np.arange(len(known), len(known) + sum(single))
    return groups


def _names(split: str, source: Source, config: DataConfig) -> list[str | None]:
    """The name of each image's group; None for an image that has none."""
    if config.group_pattern is not None:
        return _matches(split, source, re.compile(config.group_pattern), config)
    cells = getattr(source, "groups", None)
    if cells is None:
        raise UserError(
            f"--data.source {config.source} has no columns for --data.group-column: give --data.group-pattern, a "
            "regular expression for the images' paths"
        )
    names = [cell if cell.strip() else None for cell in cells]
    if without := names.count(None):
        note_once(
            f"{config.root}: {without:,} of {len(names):,} {split} images have no {config.group_column}: each is a "
            "group of its own"
        )
    return names


def _matches(split: str, source: Source, pattern: re.Pattern[str], config: DataConfig) -> list[str | None]:
    """What the pattern finds in each image's path: its first group, or all of the match if it has no group."""
    paths = _paths(source)
    matches = [pattern.search(path) for path in paths]
    names = [None if match is None else match[1 if pattern.groups else 0] or None for match in matches]
    unmatched = names.count(None)
    if unmatched == len(names):
        raise UserError(
            f"--data.group-pattern {pattern.pattern} matches no image of {config.root or config.source} in "
            f"{split}, such as {paths[0]}: change the pattern"
        )
    if unmatched:
        first = paths[names.index(None)]
        note_once(
            f"--data.group-pattern {pattern.pattern} matches {len(names) - unmatched:,} of {len(names):,} {split} "
            f"images, not {first}: each of the others is a group of its own"
        )
    return names


def _paths(source: Source) -> list[str]:
    """The path of each image below the folder of the images; its name if it is in no folder."""
    if isinstance(source, FileSource):
        return list(source.files)
    return [source.name(index) for index in range(len(source))]


def _note_divided(names: dict[str, list[str | None]], config: DataConfig) -> None:
    """Notes groups that have images in two of the data's own splits."""
    rest = [(split, {name for name in found if name is not None}) for split, found in names.items()]
    for position, (split, found) in enumerate(rest):
        for other, others in rest[position + 1 :]:
            if shared := found & others:
                note_once(
                    f"{config.root}: {len(shared):,} groups, such as {min(shared)}, have images both in {split} and in "
                    f"{other}"
                )
