"""Label files: a CSV, TSV or JSON Lines file that names an image and its class in each row.

Every value is text: classes called `None`, `NA`, `007` or `1e5` keep their names.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from vitral.data.config import ROLES, DataConfig
from vitral.data.images.bands import BAND_SUFFIXES, image_suffixes
from vitral.data.images.decode import IMAGE_SUFFIXES
from vitral.data.notes import note_once
from vitral.data.sources.folder import SPLITS, list_images
from vitral.data.sources.source import FileSource, Source
from vitral.errors import UserError

__all__ = ["LABEL_SUFFIXES", "METADATA", "find_label_file", "find_metadata", "open_label_file", "open_label_files"]

LABEL_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
"""Endings of label files."""

METADATA = ("metadata.csv", "metadata.jsonl")
"""Label files of the Hugging Face Hub, in a folder of images or in the folder of each split."""

PATH_SUFFIXES = IMAGE_SUFFIXES | BAND_SUFFIXES
"""Lower-case suffixes by which a cell is recognised as the path of an image."""

DELIMITERS = ",;\t|"
IMAGE_COLUMNS = ("file_name", "filename", "file", "path", "filepath", "file_path", "image", "image_path", "img", "id")
LABEL_COLUMNS = ("label", "labels", "class", "class_name", "classname", "category", "target", "cls", "species", "breed")
SPLIT_COLUMNS = ("split", "subset", "partition")

Columns = dict[str, Sequence[str]]
"""The cells of each column, in the order of the rows."""


def open_label_file(config: DataConfig) -> dict[str, Source]:
    """The images that the label file `config.root` names.

    Raises:
        UserError: the file is missing or malformed, a column is missing or ambiguous, a row has no class, or the first
            image is not there.
    """
    file = config.root
    if file is None or not file.is_file():
        raise UserError(f"--data.source csv needs --data.root, a {', '.join(LABEL_SUFFIXES)} file, not {file}")
    return open_label_files({"train": file}, config)


def find_label_file(root: Path) -> Path | None:
    """The label file that stands in for class folders: `root` itself, or the only one in a folder without folders."""
    if root.is_file():
        return root if root.suffix.lower() in LABEL_SUFFIXES else None
    if not root.is_dir():
        return None
    entries = [entry for entry in root.iterdir() if not entry.name.startswith(".")]
    files = [entry for entry in entries if entry.suffix.lower() in LABEL_SUFFIXES]
    return files[0] if len(files) == 1 and not any(entry.is_dir() for entry in entries) else None


def find_metadata(root: Path) -> dict[str, Path]:
    """The label files of a folder in the Hub's layout, by split; empty if there are none."""
    whole = [root / name for name in METADATA if (root / name).is_file()]
    if whole:
        return {"train": whole[0]}
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir() and folder.name.lower() in SPLITS)
    found = {
        SPLITS[folder.name.lower()]: folder / name
        for folder in folders
        for name in METADATA
        if (folder / name).is_file()
    }
    return found if "train" in found else {}


def open_label_files(files: Mapping[str, Path], config: DataConfig) -> dict[str, Source]:
    """The images of one label file for each split; errors as in `open_label_file`.

    Args:
        files: the files by split. A file alone may assign splits in a column.
        config: columns, class names and the folder of the images.
    """
    rows: dict[str, tuple[Path, list[str], list[str]]] = {}
    for split, file in files.items():
        columns = _read(file)
        image, label = _columns(file, columns, config)
        folder = config.images or _image_folder(file, columns[image][0])
        paths = _paths(file, folder, columns[image], config)
        labels = _labels(file, columns[label])
        _check_repeated(file, paths, labels)
        for part, chosen in _parts(file, columns, config, split if len(files) > 1 else None).items():
            rows[part] = folder, [paths[row] for row in chosen], [labels[row] for row in chosen]
    classes = config.class_names or _sorted_classes(set(rows["train"][2]))
    numbers = {name: number for number, name in enumerate(classes)}
    sources: dict[str, Source] = {}
    for split, (folder, paths, labels) in rows.items():
        unknown = sorted(set(labels) - numbers.keys())
        if unknown:
            raise UserError(f"{config.root} has the class {unknown[0]!r} in its {split} images only: remove these rows")
        encoded = np.fromiter(map(numbers.__getitem__, labels), np.int64, len(labels))
        sources[split] = FileSource(root=folder, files=paths, labels=encoded, classes=classes)
    return {split: sources[split] for split in ROLES if split in sources}


def _read(file: Path) -> Columns:
    """The columns of a file by name; those of a file without a header are named 1, 2, 3."""
    try:
        text = file.read_bytes().decode("utf-8-sig")  # line ends inside quotes stay as they are
    except UnicodeDecodeError:
        raise UserError(f"{file} is not UTF-8 text: save it as UTF-8") from None
    rows = _json_rows(file, text) if file.suffix.lower() in (".jsonl", ".ndjson") else _csv_rows(file, text)
    header = next(rows, None)
    if header is None:
        raise UserError(f"{file} is empty: give one row for each image")
    body = list(rows)
    if any(Path(cell).suffix.lower() in PATH_SUFFIXES for cell in header):  # the first row is an image already
        header, body = [str(number) for number in range(1, len(header) + 1)], [header, *body]
    if not body:
        raise UserError(f"{file} has a header but no rows: give one row for each image")
    short = next((number for number, row in enumerate(body, 2) if len(row) != len(header)), None)
    if short is not None:
        cells = len(body[short - 2])
        raise UserError(f"{file} has {cells} cells in row {short}, not {len(header)} as its header: correct the row")
    if len(set(header)) < len(header):
        raise UserError(f"{file} has two columns with the same name: rename one")
    return dict(zip(header, zip(*body, strict=True), strict=True))


def _csv_rows(file: Path, text: str) -> Iterator[list[str]]:
    first = text.partition("\n")[0]
    delimiter = "\t" if file.suffix.lower() == ".tsv" else max(DELIMITERS, key=first.count)
    try:
        yield from filter(None, csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise UserError(f"{file} is no table: {error}") from None


def _json_rows(file: Path, text: str) -> Iterator[list[str]]:
    """The keys of the first object, then the values of each; numbers as they are written."""
    header: list[str] | None = None
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line, parse_int=str, parse_float=str, parse_constant=str)
        except ValueError as error:
            raise UserError(f"{file} line {number} is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise UserError(f"{file} line {number} is not a JSON object: give one object for each image")
        if header is None:
            header = list(row)
            yield header
        cells = [row.get(name) for name in header]
        yield ["" if cell is None else cell if isinstance(cell, str) else json.dumps(cell) for cell in cells]


def _columns(file: Path, columns: Columns, config: DataConfig) -> tuple[str, str]:
    """The names of the columns of images and of classes: as given, by their names, or by their content."""
    image, label = config.image_column, config.label_column
    for flag, name in (("image", image), ("label", label)):
        if name is not None and name not in columns:
            raise UserError(f"{file} has no column {name!r}, only {', '.join(columns)}: change --data.{flag}-column")
    by_lower = {name.lower().strip(): name for name in columns}
    if image is None:
        by_content = [name for name, cells in columns.items() if Path(cells[0]).suffix.lower() in PATH_SUFFIXES]
        by_name = [by_lower[name] for name in IMAGE_COLUMNS if name in by_lower]
        image = next(iter([*by_content, *by_name]), None)
    if label is None:
        others = [name for name in columns if name != image and name.lower() not in SPLIT_COLUMNS]
        named = [by_lower[name] for name in LABEL_COLUMNS if by_lower.get(name) in others]
        label = next(iter(named), others[0] if len(others) == 1 else None)
    for flag, name in (("image", image), ("label", label)):
        if name is None:
            raise UserError(
                f"{file} has no obvious column of {'images' if flag == 'image' else 'classes'}, only "
                f"{', '.join(columns)}: choose one with --data.{flag}-column"
            )
    assert image is not None
    assert label is not None
    if config.image_column is None or config.label_column is None:
        note_once(f"{file}: images from the column {image!r}, classes from the column {label!r}")
    return image, label


def _image_folder(file: Path, first: str) -> Path:
    """The folder of the label file, or the folder in it that has the first image."""
    folders = [file.parent, *sorted(entry for entry in file.parent.iterdir() if entry.is_dir())]
    return next((folder for folder in folders if (folder / first).is_file()), file.parent)


def _paths(file: Path, folder: Path, cells: Sequence[str], config: DataConfig) -> list[str]:
    """Paths of the images, relative to `folder`; an image named without its ending gets it."""
    suffixes = image_suffixes(config.channels)
    paths = list(cells)
    if "\\" in paths[0] and not (folder / paths[0]).is_file():  # of a file from Windows
        paths = [path.replace("\\", "/") for path in paths]
    if Path(paths[0]).suffix.lower() not in PATH_SUFFIXES and not (folder / paths[0]).is_file():
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder: give the folder of the images as --data.images")
        endings = {path.rpartition(".")[0]: path for path in list_images(folder, suffixes=suffixes)}
        paths = [endings.get(path, path) for path in paths]
    if not (folder / paths[0]).is_file():
        advice = "correct its path" if config.images is not None else "give the folder of the images as --data.images"
        raise UserError(f"{file} names {paths[0]}, but {folder / paths[0]} does not exist: {advice}")
    return paths


def _labels(file: Path, cells: Sequence[str]) -> list[str]:
    empty = next((row for row, cell in enumerate(cells) if not cell.strip()), None)
    if empty is not None:
        raise UserError(f"{file} has no class in row {empty + 2}: give every image a class, or remove the row")
    return list(cells)


def _check_repeated(file: Path, paths: list[str], labels: list[str]) -> None:
    """Notes images that are named more than once.

    Raises:
        UserError: an image has two classes.
    """
    classes: dict[str, str] = {}
    for path, label in zip(paths, labels, strict=True):
        if classes.setdefault(path, label) != label:
            raise UserError(f"{file} gives {path} the classes {classes[path]!r} and {label!r}: keep one")
    if repeated := len(paths) - len(classes):
        note_once(f"{file} names {repeated:,} images more than once, which may put one into two splits")


def _parts(file: Path, columns: Columns, config: DataConfig, split: str | None) -> dict[str, list[int]]:
    """The rows of each split: all of a split's own file, else as a column says."""
    count = len(next(iter(columns.values())))
    column = config.split_column or next((name for name in columns if name.lower() in SPLIT_COLUMNS), None)
    if split is not None or column is None:
        return {split or "train": list(range(count))}
    if column not in columns:
        raise UserError(f"{file} has no column {column!r}, only {', '.join(columns)}: change --data.split-column")
    roles = dict(entry.split("=", 1)[::-1] for entry in config.splits) or SPLITS
    parts: dict[str, list[int]] = {}
    for row, cell in enumerate(columns[column]):
        role = roles.get(cell) or roles.get(cell.lower().strip())
        if role is None:
            raise UserError(
                f"{file} has {cell!r} in its column {column}, which names no split: say which is which with "
                "--data.splits train=NAME test=NAME"
            )
        parts.setdefault(role, []).append(row)
    if "train" not in parts:
        raise UserError(f"{file} has no training images in its column {column}: it has {', '.join(parts)}")
    return parts


def _sorted_classes(classes: set[str]) -> tuple[str, ...]:
    """Sorted classes; numbers by their value."""
    if all(name.isascii() and name.isdigit() for name in classes):
        return tuple(sorted(classes, key=lambda name: (int(name), name)))
    return tuple(sorted(classes))
