"""What kind of data lies somewhere, by a look at the names of its files."""

from itertools import islice
from pathlib import Path
from typing import Literal, get_args, get_type_hints

from vitral.data.config import DataConfig
from vitral.data.sources.tables import PACKED, WHOLE
from vitral.errors import UserError

__all__ = ["guessed"]

LOOKED_AT = 1000
"""Files that are looked at, at most."""


def guessed(words: str) -> DataConfig:
    """The configuration that opens `words`: a data set's name, a folder, a file, a pattern, or OWNER/NAME on the Hub.

    Raises:
        UserError: it is nothing of all this.
    """
    if words in get_args(get_type_hints(DataConfig)["source"]):
        return DataConfig(source=words)  # pyright: ignore[reportArgumentType]
    root = Path(words)
    if root.suffix == ".tar":
        return DataConfig(source="tars", root=root)
    if root.is_file():
        return DataConfig(source="hub", root=root)
    if root.is_dir():
        return DataConfig(source=_kind(root), root=root)
    if words.count("/") == 1 and not words.startswith((".", "/", "~")) and not words.endswith("/"):
        return DataConfig(source="hub", root=root)
    raise UserError(f"{words} does not exist: give a folder, a data set's name (see vitral data list), or OWNER/NAME")


def _kind(root: Path) -> Literal["hub", "tars", "idx", "folder"]:
    names = [path.name for path in islice((path for path in root.rglob("*") if path.is_file()), LOOKED_AT)]
    if {PACKED, WHOLE, "state.json"} & set(names) or any(name.endswith((".parquet", ".arrow")) for name in names):
        return "hub"
    if any(name.endswith(".tar") for name in names):
        return "tars"
    return "idx" if any("-ubyte" in name for name in names) else "folder"
