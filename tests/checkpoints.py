"""Reads training checkpoints without the code that wrote them."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

__all__ = ["metadata", "newest", "tensors", "truncate"]


def newest(run: Path) -> Path:
    """The newest checkpoint of a run."""
    return max((run / "checkpoints").glob("step_*"))


def tensors(checkpoint: Path, kind: str = "") -> dict[str, Tensor]:
    """Tensors of a single-process checkpoint by name; with `kind`, those under that prefix, without it."""
    stored = load_file(checkpoint / "shard-00001-model-00001-of-00001.safetensors")
    prefix = kind and f"{kind}."
    return {name.removeprefix(prefix): tensor for name, tensor in stored.items() if name.startswith(prefix)}


def metadata(checkpoint: Path) -> dict[str, Any]:
    """Values of a checkpoint that are not tensors."""
    return json.loads((checkpoint / "state.json").read_text())["metadata"]


def truncate(checkpoint: Path) -> None:
    """Truncates every file of a checkpoint to 100 bytes."""
    for path in checkpoint.iterdir():
        path.write_bytes(path.read_bytes()[:100])
