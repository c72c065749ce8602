"""Finds the image files that a label file names."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from vitral.data.config import DataConfig
from vitral.data.notes import note_once
from vitral.data.sources.folder import list_images
from vitral.data.sources.label_tables import PATH_SUFFIXES, LabelTable
from vitral.errors import UserError

__all__ = ["find_images"]

MAX_LOOKUPS = 20_000
"""Files in folders of few named images that are looked up singly; of more, an evenly spaced sample."""

FEW_IMAGES = 32
"""Named images in a folder below which they are looked up singly; to list a folder takes as long."""

MAX_PROBES = 5
"""Images that are tried until one is found."""

URL = re.compile(r"[a-z][a-z0-9+]+://", re.IGNORECASE)
WINDOWS_DRIVE = re.compile(r"[a-z]:[\\/]", re.IGNORECASE)


def find_images(table: LabelTable, column: str, config: DataConfig) -> tuple[Path, list[str]]:
    """The folder of the images, and their paths in it.

    The first image that is found decides how paths are read: as they are, with Windows' backslashes as slashes, without
    spaces around them, without the folders of another machine, or with an ending that the file leaves out.

    Raises:
        UserError: a row has no image, or images do not exist and `config.on_error` is not "skip".
    """
    cells = table.columns[column]
    if column in table.structured:
        row = table.structured[column] + table.first_row
        raise UserError(f"{table.file} names several images in row {row}: give each image a row of its own")
    empty = next((row for row, cell in enumerate(cells) if not cell.strip()), None)
    if empty is not None:
        raise UserError(f"{table.file} has no image in row {empty + table.first_row}: name one, or remove the row")
    if config.images is not None and not config.images.is_dir():
        raise UserError(f"{config.images} is not a folder: give the folder of the images as --data.images")
    folders = _near_folders(config.images or table.file.parent, table.file.stem, cells[0])
    windows = next((cell for cell in cells if "\\" in cell), None)
    if windows is not None and not any(_is_file(folder, windows) for folder in folders):
        cells = [cell.replace("\\", "/") for cell in cells]
        note_once(f"{table.file}: backslashes in the images' paths are read as slashes")
    folder, paths = next(
        (
            found
            for probe in cells[:: -(-len(cells) // MAX_PROBES)]
            for reading in READINGS
            for folder in folders
            if (found := reading(table, folder, cells, probe)) is not None
        ),
        (folders[0], cells),
    )
    if config.images is not None and Path(paths[0]).is_absolute():
        note_once(f"{table.file} has absolute paths, such as {_shown(paths[0])}: --data.images is not used for them")
    _check_exist(table, folder, paths, config)
    return folder, paths


def _near_folders(top: Path, stem: str, first: str) -> list[Path]:
    """A folder and the folders in it: first those with a name like the label file's, as `train/` for `train.csv`."""
    if _is_file(top, first):
        return [top]
    with os.scandir(top) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    stem = stem.lower()
    names.sort(key=lambda name: not (name.lower().startswith(stem) or name.lower() in stem))
    return [top, *(top / name for name in names)]


Found = tuple[Path, list[str]]


def _as_written(table: LabelTable, folder: Path, cells: list[str], probe: str) -> Found | None:
    return (folder, cells) if _is_file(folder, probe) else None


def _without_spaces(table: LabelTable, folder: Path, cells: list[str], probe: str) -> Found | None:
    if not _is_file(folder, probe.strip()):
        return None
    note_once(f"{table.file}: spaces around the images' paths are left out")
    return folder, [cell.strip() for cell in cells]


def _without_ending(table: LabelTable, folder: Path, cells: list[str], probe: str) -> Found | None:
    """Paths with the ending of the file that has this name."""
    first = probe.strip()
    candidates = (f"{first}{ending}" for suffix in PATH_SUFFIXES for ending in (suffix, suffix.upper()))
    if Path(first).suffix.lower() in PATH_SUFFIXES or not any(_is_file(folder, name) for name in candidates):
        return None
    names: dict[str, str] = {}
    twice: dict[str, str] = {}
    for path in list_images(folder, suffixes=PATH_SUFFIXES):
        if names.setdefault(path.rpartition(".")[0], path) != path:
            twice[path.rpartition(".")[0]] = path
    paths = [names.get(cell) or names.get(cell.strip(), cell) for cell in cells]
    ambiguous = next((cell for cell in cells if cell in twice), None)
    if ambiguous is not None:
        both = f"{names[ambiguous]} and {twice[ambiguous]}"
        raise UserError(f"{table.file} names {ambiguous} without its ending, but {folder} has both {both}: name one")
    note_once(f"{table.file} names images without their ending: {_shown(probe)} is {folder / names.get(probe, first)}")
    return folder, paths


def _without_folders(table: LabelTable, folder: Path, cells: list[str], probe: str) -> Found | None:
    """Paths of another machine, without as many of their first folders as the first image needs to be found."""
    if URL.match(probe):
        return None
    parts = probe.split("/")
    drop = next((count for count in range(1, len(parts)) if _is_file(folder, "/".join(parts[count:]))), None)
    if drop is None:
        return None
    removed = "/".join(parts[:drop]) + "/"
    paths = [cell.removeprefix(removed) for cell in cells]
    note_once(f"{table.file}: images are in {folder}, without the folders {removed} of their paths")
    return folder, paths


READINGS: tuple[Callable[[LabelTable, Path, list[str], str], Found | None], ...] = (
    _as_written,
    _without_spaces,
    _without_ending,
    _without_folders,
)
"""How paths may be meant, from the most literal."""


def _is_file(folder: Path, name: str) -> bool:
    return os.path.isfile(folder / name)  # noqa: PTH113 (Path.is_file raises for names that are too long)


def _check_exist(table: LabelTable, folder: Path, paths: Sequence[str], config: DataConfig) -> None:
    """Raises UserError if images do not exist, or notes it if unreadable images are skipped."""
    missing = _missing(table.file, folder, paths)
    if not missing:
        return
    first = missing[0]
    path = _shown(first if URL.match(first) or WINDOWS_DRIVE.match(first) else str(folder / first))
    state = f"{table.file} names {_shown(first)}, but {path} does not exist"
    if len(missing) > 1:
        state = f"{table.file} names {len(missing):,} images that do not exist, such as {path}"
    if config.on_error == "skip" and len(missing) < len(paths):
        note_once(f"{state}: skipped when they are read" if len(missing) > 1 else f"{state}: skipped when it is read")
        return
    raise UserError(f"{state}: {_advice(table, folder, first, config, all_missing=len(missing) == len(paths))}")


def _advice(table: LabelTable, folder: Path, missing: str, config: DataConfig, *, all_missing: bool) -> str:
    """What to do about an image that does not exist."""
    if URL.match(missing):
        return "it is a URL, so download the images and name their files"
    if WINDOWS_DRIVE.match(missing) or Path(missing).is_absolute():
        return "make the paths relative to the folder of the images, and give that as --data.images"
    if config.images is not None and _is_file(table.file.parent, missing):
        return f"it is in {table.file.parent}, so leave out --data.images"
    if "\0" in missing:
        return "remove the NUL character from the path"
    name = Path(missing).name
    parent = (folder / missing).parent
    same = [other for other in _names(parent) if other.lower() == name.lower()]
    if same:
        return f"the folder has {same[0]}, so correct the case of the letters"
    if not all_missing:
        return "remove these rows, correct their paths, or leave such images out with --data.on-error skip"
    given = "correct the paths or --data.images"
    return given if config.images is not None else "give the folder of the images as --data.images"


def _missing(file: Path, folder: Path, paths: Sequence[str]) -> list[str]:
    """The paths that do not exist, in order. Folders of many named images are listed rather than asked for each."""
    by_parent: dict[str, list[str]] = {}
    for path in paths:
        parent, _, name = path.rpartition("/")
        if not parent and path.startswith("/"):
            parent = "/"
        try:
            by_parent[parent].append(name)
        except KeyError:
            by_parent[parent] = [name]
    missing: set[str] = set()
    single: list[str] = []
    for parent, names in by_parent.items():
        prefix = parent if parent == "/" else f"{parent}/" if parent else ""
        if len(names) < FEW_IMAGES:
            single += [prefix + name for name in dict.fromkeys(names)]
        else:
            missing.update(prefix + name for name in set(names) - _names(folder / parent))
    step = -(-len(single) // MAX_LOOKUPS) if single else 1
    if step > 1:
        note_once(f"{file}: looked for {len(single[::step]):,} of {len(single):,} images, as their folders are many")
    missing.update(path for path in single[::step] if not _is_file(folder, path))
    return [path for path in paths if path in missing] if missing else []


def _names(folder: Path) -> set[str]:
    """Names of the entries of a folder; none if it cannot be listed."""
    try:
        return set(os.listdir(folder))  # noqa: PTH208 (a million Path objects take seconds)
    except (OSError, ValueError):
        return set()


def _shown(text: str) -> str:
    """`text` in one line."""
    return text if text.isprintable() else repr(text)
