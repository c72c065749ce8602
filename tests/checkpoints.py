"""The content of a checkpoint, read without the code that wrote it."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

__all__ = ["metadata", "newest", "tensors", "truncate"]


def newest(run: Path) -> Path:
    """A run's newest checkpoint."""
    return max((run / "checkpoints").glob("step_*"))


def tensors(checkpoint: Path, kind: str = "") -> dict[str, Tensor]:
    """Its tensors by name, or those of one kind such as `model`, without that prefix; of a run of one process."""
    found = load_file(checkpoint / "shard-00001-model-00001-of-00001.safetensors")
    prefix = kind and f"{kind}."
    return {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}


def metadata(checkpoint: Path) -> dict[str, Any]:
    """The content of `state.json` besides checksums."""
    return json.loads((checkpoint / "state.json").read_text())["metadata"]


def truncate(checkpoint: Path) -> None:
    """Cuts its files short."""
    for path in checkpoint.iterdir():
        path.write_bytes(path.read_bytes()[:100])
