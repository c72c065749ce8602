"""Representations kept on disk, for every measure that learns from them."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from vitral.evals.features import Representations
from vitral.files import write_atomically

__all__ = ["cached"]


def cached(
    folder: Path | None,
    key: tuple[str, ...],
    compute: Callable[[], Representations],
    *,
    say: Callable[[str], None],
) -> Representations:
    """What `compute` gives, or what it gave before for the same key.

    Args:
        folder: where to keep it; None: nowhere.
        key: all that the result depends on: the model's weights, preprocessing, data.
        compute: extracts the features.
        say: is told of a file that cannot be used.
    """
    if folder is None:
        return compute()
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    path = folder / f"{name[:24]}.safetensors"
    if path.exists():
        try:
            return _read(path, name)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            say(f"{path} cannot be used ({reason}): its features are computed again")
    found = compute()
    tensors = {column: getattr(found, column).contiguous() for column in Representations.COLUMNS}
    facts = {"key": name, "broken": json.dumps(found.broken)}
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(save(tensors, facts)))
    return found


def _read(path: Path, name: str) -> Representations:
    """Features from a file.

    Raises:
        ValueError: they are another model's, or of other data.
    """
    with safe_open(path, "pt") as file:
        facts = file.metadata()
        if facts["key"] != name:
            raise ValueError("it holds another model's features, or other data's")
        columns = {column: file.get_tensor(column) for column in Representations.COLUMNS}
        return Representations(**columns, broken=tuple(json.loads(facts["broken"])))
