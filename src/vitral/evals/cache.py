"""FeatureSet kept on disk, for every measure that learns from them."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vitral import __version__
from vitral.errors import UserError
from vitral.evals.features import FeatureSet
from vitral.files import write_atomically

__all__ = ["Cache", "name_of", "unusable", "warn_on_failure"]


class Cache:
    """FeatureSet in a folder, each under a key of all that it depends on: weights, preprocessing, data.

    Args:
        folder: where they are; made when the first is kept. None: nothing is kept or found.
        say: is told of a file that cannot be used.
    """

    def __init__(self, folder: Path | None, *, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.say = say

    def find(self, key: tuple[str, ...]) -> FeatureSet | None:
        """What was kept under a key; None where there is nothing, or what there is cannot be used."""
        path, name = self._place(key)
        if path is None or not path.exists():
            return None
        try:
            return _read(path, name)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            self.say(f"{unusable(path, error)}: its features are computed again")
            return None

    def keep(self, key: tuple[str, ...], found: FeatureSet) -> None:
        """Keeps representations under a key; where that fails, it is said."""
        path, name = self._place(key)
        if path is None:
            return
        tensors = {column: getattr(found, column).contiguous() for column in FeatureSet.COLUMNS}
        facts = {"key": name, "broken": json.dumps(found.unreadable), "sha256": _digest(tensors)}
        with warn_on_failure(path, self.say):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, lambda file: file.write(save(tensors, facts)))

    def _place(self, key: tuple[str, ...]) -> tuple[Path | None, str]:
        """The file of a key, and the key's own name."""
        name = name_of(key)
        return self.folder and self.folder / f"{name[:24]}.safetensors", name


def name_of(key: tuple[str, ...]) -> str:
    """A key's own name, of 64 characters, another for each version of Vitral; a file is called by the first 24."""
    return hashlib.sha256(json.dumps([__version__, *key]).encode()).hexdigest()


@contextmanager
def warn_on_failure(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """A file that cannot be written costs what would have been kept, and nothing else."""
    try:
        yield
    except OSError as error:
        say(f"{path} cannot be written ({error.strerror or error}): what it would hold is not kept")


def unusable(path: Path, error: Exception) -> str:
    """What is wrong with a file, for a sentence that goes on with what is done about it."""
    return f"{path} cannot be used ({' '.join(str(error).split()) or type(error).__name__})"


def _read(path: Path, name: str) -> FeatureSet:
    """Features from a file.

    Raises:
        UserError: they are another model's, or of other data.
    """
    with safe_open(path, "pt") as file:
        facts = file.metadata()
        if facts["key"] != name:
            raise UserError("it holds another model's features, or other data's")
        columns = {column: file.get_tensor(column) for column in FeatureSet.COLUMNS}
        if facts["sha256"] != _digest(columns):
            raise UserError("its numbers are damaged")
        return FeatureSet(**columns, unreadable=tuple(json.loads(facts["broken"])))


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """A hash of all numbers."""
    digest = hashlib.sha256()
    for name in FeatureSet.COLUMNS:
        digest.update(tensors[name].contiguous().numpy().data)
    return digest.hexdigest()
