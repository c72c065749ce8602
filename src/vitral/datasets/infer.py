"""Infers a data configuration from a path or a name."""

from itertools import islice
from pathlib import Path
from typing import Literal

from vitral.data.config import DataConfig
from vitral.data.sources.label_tables import LABEL_SUFFIXES
from vitral.data.sources.remote import as_url
from vitral.data.sources.spool import is_pipe
from vitral.data.sources.tables import PACKED, WHOLE
from vitral.data.sources.tfds import INFO
from vitral.data.sources.tfrecords import NAMES
from vitral.datasets.registry import DATA_SETS, TASKS
from vitral.errors import UserError, did_you_mean

__all__ = ["infer_source"]

TEXT_SUFFIXES = (*LABEL_SUFFIXES, ".json", ".txt", ".lst")
"""Endings of files of paths and classes."""

MAX_FILES = 1000
"""Files whose names are read at most."""


def infer_source(words: str) -> DataConfig:
    """The configuration that opens `words`: a data set's name, a folder, a file, a pattern or URL of shards, or
    OWNER/NAME on the Hub.

    Raises:
        UserError: it is none of these.
    """
    names = [*DATA_SETS, *TASKS]
    if words in names:
        return DataConfig(source=words)
    root = Path(words)
    if root.suffix != ".tar" and NAMES.search(root.name):
        return DataConfig(source="tfrecord", root=root)
    if root.suffix == ".tar" or as_url(root) or is_pipe(words):
        return DataConfig(source="tars", root=root)
    if root.is_file():
        return DataConfig(source="csv" if root.suffix.lower() in TEXT_SUFFIXES else "hub", root=root)
    if root.is_dir():
        return DataConfig(source=_storage(root), root=root)
    if words.count("/") == 1 and not words.startswith((".", "/", "~")) and not words.endswith("/"):
        return DataConfig(source="hub", root=root)
    raise UserError(
        f"{words} does not exist{did_you_mean(words, names)}: "
        "give a folder, a data set's name (see vitral data list), or OWNER/NAME"
    )


def _storage(root: Path) -> Literal["hub", "tars", "tfrecord", "idx", "folder"]:
    """The kind of storage, from the names of the files in a folder."""
    names = [path.name for path in islice((path for path in root.rglob("*") if path.is_file()), MAX_FILES)]
    if {PACKED, WHOLE, "state.json"} & set(names) or any(name.endswith((".parquet", ".arrow")) for name in names):
        return "hub"
    if any(name.endswith(".tar") for name in names):
        return "tars"
    if INFO in names or any(NAMES.search(name) for name in names):
        return "tfrecord"
    return "idx" if any("-ubyte" in name for name in names) else "folder"
