"""Label files: a table, a JSON document or a list that names an image and its class in each row.

Every value is text: classes called `None`, `NA`, `007` or `1e5` keep their names.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from vitral.data.config import ROLES, DataConfig
from vitral.data.notes import note_once
from vitral.data.sources.folder import SPLITS
from vitral.data.sources.label_columns import choose_columns, split_rows
from vitral.data.sources.label_paths import find_images
from vitral.data.sources.label_tables import LABEL_SUFFIXES, LabelTable, read_table
from vitral.data.sources.label_targets import Rows, encode_targets, merge_repeated, read_targets
from vitral.data.sources.source import FileSource, Source
from vitral.errors import UserError

__all__ = ["METADATA", "find_label_file", "find_metadata", "open_label_file", "open_label_files"]

METADATA = ("metadata.csv", "metadata.jsonl")
"""Label files of the Hugging Face Hub, in a folder of images or in the folder of each split."""


def open_label_file(config: DataConfig) -> dict[str, Source]:
    """The images that the label file `config.root` names.

    Raises:
        UserError: the file is missing or malformed, a column is missing or ambiguous, a row has no class, or images do
            not exist.
    """
    root = config.root
    files = _files_of_splits(root, config) if root is not None and root.is_dir() else {}
    if root is not None and root.is_file():
        files = {"train": root}
    if not files:
        raise UserError(f"--data.source csv needs --data.root, a {', '.join(LABEL_SUFFIXES)} file, not {root}")
    return open_label_files(files, config)


def _files_of_splits(root: Path, config: DataConfig) -> dict[str, Path]:
    """The label files in a folder by split: those that `config.splits` names, or such as train.csv and val.csv."""
    if config.splits:
        given = dict(entry.split("=", 1) for entry in config.splits)
        for name in given.values():
            if not (root / name).is_file():
                raise UserError(f"{root / name} is not a file: name label files in {root} with --data.splits")
        return {split: root / given[split] for split in ROLES if split in given}
    if found := find_metadata(root):
        return found
    files: dict[str, Path] = {}
    for file in sorted(root.iterdir()):
        split = SPLITS.get(file.stem.lower())
        if split is None or file.suffix.lower() not in (*LABEL_SUFFIXES, ".json", ".txt"):
            continue
        if split in files:
            raise UserError(f"{root} has both {files[split].name} and {file.name}: choose one with --data.splits")
        files[split] = file
    only = find_label_file(root)
    return files if "train" in files else {"train": only} if only is not None else {}


def find_label_file(root: Path) -> Path | None:
    """The label file that stands in for class folders: `root` itself, or the only one in a folder without folders."""
    if root.is_file():
        return root if root.suffix.lower() in (*LABEL_SUFFIXES, ".json") else None
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
        files: the files by split. A file alone may assign splits in a column, or by the folders of its images.
        config: columns, class names and the folder of the images.
    """
    several = config.target == "multi-label"
    tables = {split: read_table(file, several=several) for split, file in files.items()}
    label = choose_columns(tables["train"], config).label
    if label is not None and "test" in tables and label not in tables["test"].columns:
        note_once(f"{tables.pop('test').file} is left out, as it has no column {label!r}")
    parts: dict[str, _Part] = {}
    for split, table in tables.items():
        parts |= _read_parts(table, config, split if len(tables) > 1 else None)
    _note_shared(parts)
    classes, labels = encode_targets({split: part.rows.targets for split, part in parts.items()}, config, name=label)
    sources: dict[str, Source] = {
        split: FileSource(
            root=part.folder, files=part.rows.paths, labels=labels[split], classes=classes, groups=part.rows.groups
        )
        for split, part in parts.items()
    }
    return {split: sources[split] for split in ROLES if split in sources}


class _Part(NamedTuple):
    """The images of a split, before their targets are encoded."""

    folder: Path
    rows: Rows


def _read_parts(table: LabelTable, config: DataConfig, split: str | None) -> dict[str, _Part]:
    """The images of a file by split; all are of `split` if that is given."""
    chosen = choose_columns(table, config)
    targets = read_targets(table, chosen, config)
    groups = None if config.group_column is None else table.column(config.group_column, flag="group-column")
    folder, paths = find_images(table, chosen.image, config)
    rows = Rows(paths=paths, targets=targets, groups=groups)
    if split is not None:
        return {split: _Part(folder, merge_repeated(table.file, rows, config))}
    parts = split_rows(table, chosen.split, paths, config)
    if len(parts) == 1:
        return {"train": _Part(folder, merge_repeated(table.file, rows, config))}
    if config.target != "multi-label":
        merge_repeated(table.file, rows, config)  # an image with two classes is refused, in whichever splits they are
    return {
        part: _Part(folder, merge_repeated(table.file, rows.select(members), config)) for part, members in parts.items()
    }


def _note_shared(parts: Mapping[str, "_Part"]) -> None:
    """Notes images of the training file that another split's file names too."""
    train = parts["train"]
    for split, part in parts.items():
        if (
            part is not train
            and part.folder == train.folder
            and (shared := set(train.rows.paths).intersection(part.rows.paths))
        ):
            note_once(f"{part.folder}: {len(shared):,} images, such as {min(shared)}, are both in train and in {split}")
