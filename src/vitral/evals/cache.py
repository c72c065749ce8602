"""Features cached on disk, so that each is extracted once for all evaluators."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from vitral import __version__
from vitral.config import parse_json
from vitral.errors import UserError, one_line, translate_parser_errors
from vitral.evals.features import FeatureSet
from vitral.files import write_atomically

__all__ = ["FeatureCache", "describe_unusable", "hash_key", "warn_on_write_error"]


class FeatureCache:
    """A folder of features, each file under a key of everything the features depend on: weights, preprocessing, data.

    Args:
        folder: created on the first `save`. None: nothing is cached.
        warn: called with a message about a file that cannot be read or written.
    """

    def __init__(self, folder: Path | None, *, warn: Callable[[str], None]) -> None:
        self.folder = folder
        self.warn = warn

    def load(self, key: tuple[str, ...]) -> FeatureSet | None:
        """The features under a key; None if there are none, or if the file is damaged."""
        path, name = self._locate(key)
        if path is None or not path.exists():
            return None
        try:
            with translate_parser_errors(one_line):
                return _read(path, name)
        except (OSError, UserError) as error:
            self.warn(f"{describe_unusable(path, error)}: its features are computed again")
            return None

    def save(self, key: tuple[str, ...], features: FeatureSet) -> None:
        """Writes features under a key; a failure is only a warning."""
        path, name = self._locate(key)
        if path is None:
            return
        tensors = {column: getattr(features, column).contiguous() for column in FeatureSet.COLUMNS}
        metadata = {"key": name, "unreadable": json.dumps(features.unreadable), "sha256": _digest(tensors)}
        with warn_on_write_error(path, self.warn):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, lambda file: file.write(save(tensors, metadata)))

    def _locate(self, key: tuple[str, ...]) -> tuple[Path | None, str]:
        """The file of a key, and the key's hash."""
        name = hash_key(key)
        return self.folder and self.folder / f"{name[:24]}.safetensors", name


def hash_key(key: tuple[str, ...]) -> str:
    """A hash of a key and Vitral's version, 64 characters; the first 24 name the file."""
    return hashlib.sha256(json.dumps([__version__, *key]).encode()).hexdigest()


@contextmanager
def warn_on_write_error(path: Path, warn: Callable[[str], None]) -> Iterator[None]:
    """Turns an error while writing a cache file into a warning."""
    try:
        yield
    except OSError as error:
        warn(f"{path} cannot be written ({error.strerror or error}): its content is not cached")


def describe_unusable(path: Path, error: Exception) -> str:
    """The start of a warning about a damaged cache file: its path and the error in one line."""
    return f"{path} cannot be used ({' '.join(str(error).split()) or type(error).__name__})"


def _read(path: Path, name: str) -> FeatureSet:
    """Features from a file.

    Raises:
        UserError: they belong to another model or other data, or are damaged.
    """
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        if metadata["key"] != name:
            raise UserError("it holds the features of another model or other data")
        columns = {column: file.get_tensor(column) for column in FeatureSet.COLUMNS}
        if metadata["sha256"] != _digest(columns):
            raise UserError("its numbers are damaged")
        unreadable = metadata.get("unreadable") or metadata["broken"]  # the key's first name
        return FeatureSet(**columns, unreadable=tuple(parse_json(unreadable, origin=path.name)))


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """A hash of all numbers."""
    digest = hashlib.sha256()
    for name in FeatureSet.COLUMNS:
        digest.update(tensors[name].contiguous().numpy().data)
    return digest.hexdigest()
