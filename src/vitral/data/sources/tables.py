"""Tables of images, read with Hugging Face's datasets: the Hub, Parquet, Arrow, folders of `save_to_disk`.

Tables are memory-mapped, and a cell of the image column gives the file's bytes: nothing is decoded in advance.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from vitral.data.config import ROLES, DataConfig, refuse_label_options
from vitral.data.extra import optional
from vitral.data.images.decode import UnreadableImage
from vitral.data.sources.folder import SPLITS
from vitral.data.sources.label_columns import note_unused_columns
from vitral.data.sources.label_files import find_label_file, find_metadata, open_label_files
from vitral.data.sources.labels import encode_labels
from vitral.data.sources.source import Source
from vitral.errors import UserError

__all__ = ["PACKED", "WHOLE", "TableSource", "open_tables"]

PACKED = "vitral_pack.json"
"""The first file of a packed copy; describes its content."""

WHOLE = "dataset_dict.json"
"""The last file of a packed copy, and of any saved data set with splits."""

UNLABELLED = -1
"""Label of images whose class is not published."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TableSource:
    """Images in one column of a table."""

    title: str
    """The table's name in messages."""
    table: Any
    """A `datasets.Dataset` of the image column alone, in Arrow's format."""
    labels: Int64[np.ndarray, " n"]
    classes: tuple[str, ...]
    groups: Sequence[str] | None = None
    """Group of each image, such as a patient; None: none is asked for."""

    def __len__(self) -> int:
        return len(self.labels)

    def stored(self, index: int) -> Path | bytes:
        """See `Source`."""
        cell = self.table[index].column(0)[0].as_py()
        if cell is None or (cell["bytes"] is None and cell["path"] is None):
            raise UnreadableImage(f"{self.name(index)} cannot be read as an image: its cell is empty")
        return Path(cell["path"]) if cell["bytes"] is None else cell["bytes"]

    def name(self, index: int) -> str:
        """See `Source`."""
        return f"{self.title}[{index}]"


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of the columns."""

    image: str
    label: str


def open_tables(config: DataConfig) -> dict[str, Source]:
    """Opens tables by their path or their name on the Hub, in `config.root`.

    Raises:
        UserError: there are none, a file is damaged, or columns or splits are missing or ambiguous.
    """
    if config.root is None:
        raise UserError("--data.source hub needs --data.root: a folder, a Parquet file, or OWNER/NAME on the Hub")
    files = find_metadata(config.root) if config.root.is_dir() else {}
    if not files and (file := find_label_file(config.root)):
        files = {"train": file}
    if files:  # datasets would turn the classes None and 007 into others
        return open_label_files(files, config)
    refuse_label_options(config, columns=False)
    tables = {name: table for name, table in _load(config.root).items() if len(table)}
    if not tables:
        raise UserError(f"{config.root} has no images: give another --data.root")
    columns = _columns(config, next(iter(tables.values())).features)
    split_tables = _splits(config, tables, columns)
    if len(split_tables) == 1:
        note_unused_columns(str(config.root), tables[split_tables["train"]].column_names, config, can_split=False)
    raw = {split: _raw_labels(config, tables[name], columns) for split, name in split_tables.items()}
    names = config.class_names or tuple(
        getattr(tables[split_tables["train"]].features[columns.label], "names", None) or ()
    )
    classes, labels = encode_labels(raw, names=names, origin=str(config.root))
    return {
        split: TableSource(
            title=f"{config.root}/{name}",
            table=_undecoded(tables[name], columns.image),
            labels=labels[split],
            classes=classes,
            groups=_groups(config, tables[name]),
        )
        for split, name in split_tables.items()
    }


def _load(root: Path) -> dict[str, Any]:
    """Tables by split."""
    datasets = optional("datasets", purpose="reading tables of images")
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    hub_name = str(root).removeprefix("hf-hub:")
    try:
        if not root.exists():
            return dict(datasets.load_dataset(hub_name))
        _check_files(root)
        if root.is_file():
            if root.suffix not in (".parquet", ".arrow"):
                raise UserError(f"{root} is not a .parquet or .arrow file: give such a file, or a folder of them")
            if root.suffix == ".arrow":
                return {"train": datasets.Dataset.from_file(str(root))}
            return dict(datasets.load_dataset("parquet", data_files={"train": str(root)}))
        if (root / PACKED).is_file() and not (root / WHOLE).is_file():
            raise UserError(f"{root} is an incomplete copy: run `vitral data pack` again")
        if (root / WHOLE).is_file():
            return dict(datasets.load_from_disk(str(root)))
        if (root / "state.json").is_file():
            return {"train": datasets.load_from_disk(str(root))}
        return dict(datasets.load_dataset(str(root)))
    except (datasets.exceptions.DatasetsError, OSError) as error:
        if root.exists():
            reason = str(error).strip().split("\n")[0]
            raise UserError(f"{root} cannot be opened as tables of images: {reason}") from error
        raise UserError(
            f"{hub_name} is neither a local path nor available on the Hub ({type(error).__name__}): give a "
            f"folder of Parquet or Arrow files as --data.root, or log in with `hf auth login` if the data is gated"
        ) from error


def _check_files(root: Path) -> None:
    """Reads the metadata of every file, so that the error names a damaged one."""
    arrow = optional("pyarrow", purpose="reading tables of images")
    parquet = optional("pyarrow.parquet", purpose="reading tables of images")
    for file in [root] if root.is_file() else sorted(root.rglob("*")):
        try:
            if file.suffix == ".parquet":
                parquet.read_metadata(file)
            elif file.suffix == ".arrow":
                with arrow.memory_map(str(file)) as stream:
                    _arrow_reader(arrow, stream)
        except (arrow.ArrowInvalid, OSError) as error:
            reason = str(error).split("\n")[0].rstrip(".")
            raise UserError(f"{file} is damaged or truncated ({reason}): download it again") from None


def _arrow_reader(arrow: Any, stream: Any) -> Any:
    """A reader for Arrow's file format or its stream format."""
    is_file = stream.read(6) == b"ARROW1"
    stream.seek(0)
    return arrow.ipc.open_file(stream) if is_file else arrow.ipc.open_stream(stream)


def _columns(config: DataConfig, features: Mapping[str, Any]) -> Columns:
    datasets = optional("datasets", purpose="reading tables of images")
    images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    images = images or [name for name, kind in features.items() if isinstance(kind, dict) and set(kind) >= CELL]
    labels = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    labels = labels or [name for name in features if name.lower() in LABEL_NAMES]
    return Columns(
        image=_column(config, "image", config.image_column, images, list(features)),
        label=_column(config, "label", config.label_column, labels, list(features)),
    )


CELL = {"bytes", "path"}
"""Fields of a cell that contains an image."""

LABEL_NAMES = ("label", "labels", "cls", "class", "target")
"""Names of columns whose numbers or words are taken as classes."""


def _column(config: DataConfig, kind: str, name: str | None, candidates: list[str], columns: list[str]) -> str:
    if name is not None:
        if name not in columns:
            raise UserError(
                f"{config.root} has no column {name!r}, only {', '.join(columns)}: change --data.{kind}-column"
            )
        return name
    if len(candidates) == 1:
        return candidates[0]
    state = f"several {kind} columns, {', '.join(candidates)}" if candidates else f"no obvious {kind} column"
    names = ", ".join(candidates or columns)
    raise UserError(f"{config.root} has {state}: choose one of {names} with --data.{kind}-column")


def _splits(config: DataConfig, tables: Mapping[str, Any], columns: Columns) -> dict[str, str]:
    """The name of each split's table."""
    if config.splits:
        given = dict(entry.split("=", 1) for entry in config.splits)
        names = {split: given[split] for split in ROLES if split in given}
        missing = [name for name in names.values() if name not in tables]
        if missing:
            raise UserError(
                f"{config.root} has no split {missing[0]!r}, only {', '.join(tables)}: change --data.splits"
            )
        return names
    if len(tables) == 1:
        return {"train": next(iter(tables))}
    named = {name: SPLITS[name.lower()] for name in tables if name.lower() in SPLITS}
    # a test split without published labels cannot be evaluated
    labelled = {name: split for name, split in named.items() if split == "train" or _is_labelled(tables[name], columns)}
    names = {split: name for name, split in labelled.items()}
    if "train" not in names or len(names) < len(labelled):
        raise UserError(
            f"{config.root} has the splits {', '.join(tables)}: assign them, such as "
            f"--data.splits train={next(iter(tables))} test={list(tables)[-1]}"
        )
    return {split: names[split] for split in ROLES if split in names}


def _is_labelled(table: Any, columns: Columns) -> bool:
    first = table.select_columns([columns.label]).with_format("arrow")[0].column(0)[0].as_py()
    return first not in (None, UNLABELLED)


def _raw_labels(config: DataConfig, table: Any, columns: Columns) -> np.ndarray:
    """The label column as stored: numbers, or words."""
    column = table.select_columns([columns.label]).with_format("arrow")[:].column(0)
    if column.null_count:
        raise UserError(f"{config.root} has {column.null_count} images without a {columns.label}: give each a class")
    labels = column.to_numpy()
    if labels.dtype.kind not in "iuO" or (labels.dtype.kind == "O" and not isinstance(labels[0], str)):
        raise UserError(
            f"{config.root}'s column {columns.label} contains {column.type}, which is not a class: "
            f"choose another with --data.label-column"
        )
    return labels


def _groups(config: DataConfig, table: Any) -> list[str] | None:
    """The group of each image as text; empty where it has none."""
    if config.group_column is None:
        return None
    if config.group_column not in table.column_names:
        raise UserError(
            f"{config.root} has no column {config.group_column!r}, only {', '.join(table.column_names)}: change "
            "--data.group-column"
        )
    cells = table.select_columns([config.group_column]).with_format("arrow")[:].column(0).to_pylist()
    return ["" if cell is None else str(cell) for cell in cells]


def _undecoded(table: Any, column: str) -> Any:
    datasets = optional("datasets", purpose="reading tables of images")
    images = table.select_columns([column])
    return images.cast_column(column, datasets.Image(decode=False)).with_format("arrow")
