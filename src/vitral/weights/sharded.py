"""Weights in several files, with an index that says which tensor is in which."""

import re
from pathlib import Path

from torch import Tensor

from vitral.errors import UserError
from vitral.weights.tensor_file import TensorFile, read_json, read_tensor_file, read_tensors

__all__ = ["INDEX_SUFFIX", "index_of", "read_weights"]

INDEX_SUFFIX = ".index.json"
SHARD = re.compile(r"(?P<stem>.+)-\d+-of-(?P<count>\d+)\.(?P<ending>safetensors|bin)")
"""Names of the files of a sharded model."""


def read_weights(path: Path, *, checkpoint_key: str | None = None) -> TensorFile:
    """Reads a weights file, or all files that an index names; see `read_tensor_file`.

    Raises:
        UserError: also, the file is a part of a sharded model.
    """
    if (index := index_of(path)) is not None:
        fix = (
            f"name {index} instead"
            if index.is_file()
            else f"put {index.name}, which lists them, beside it, and name that"
        )
        raise UserError(f"{path} is one of several files that hold the model together: {fix}")
    if not path.name.endswith(INDEX_SUFFIX):
        return read_tensor_file(path, checkpoint_key=checkpoint_key)
    if checkpoint_key is not None:
        raise UserError(f"{path} has no keys of state dicts: leave out --checkpoint-key")
    return TensorFile(tensors=_read_shards(path))


def index_of(path: Path) -> Path | None:
    """The index that belongs to one file of several that hold a model together; None for any other file."""
    shard = SHARD.fullmatch(path.name)
    if shard is None or int(shard["count"]) == 1:
        return None
    return path.with_name(f"{shard['stem']}.{shard['ending']}{INDEX_SUFFIX}")


def _read_shards(index: Path) -> dict[str, Tensor]:
    """Reads every tensor that an index such as `model.safetensors.index.json` names.

    Raises:
        UserError: the index or a file that it names is missing or damaged, or a tensor is not where the index says.
        OSError: a file cannot be read.
    """
    placed = read_json(index).get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise UserError(f"{index} is damaged: it has no weight_map")
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(map(str, placed.values()))):
        if "/" in name or "\\" in name or name.startswith("."):
            raise UserError(f"{index} names {name!r}, which is not a file beside it")
        shard = index.parent / name
        if not shard.is_file():
            raise UserError(f"{shard} is missing, and {index.name} names it: download or copy it again")
        content = read_tensors(shard)
        for tensor in (tensor for tensor, file in placed.items() if file == name and tensor not in content):
            raise UserError(f"{shard} has no tensor {tensor}, which {index.name} places there: download it again")
        tensors |= content
    return tensors
