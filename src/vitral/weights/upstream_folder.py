"""Folders of other projects: which file holds the weights, and which the configuration."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitral import config
from vitral.errors import UserError
from vitral.weights.folder import WEIGHTS
from vitral.weights.sharded import index_of
from vitral.weights.tensor_file import read_json

__all__ = ["SUFFIXES", "WEIGHTS_FILES", "UpstreamFiles", "find_upstream"]

SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".npz")
"""Endings of weights files that Vitral reads."""

WEIGHTS_FILES = (
    *("model.safetensors", "model.safetensors.index.json", "open_clip_model.safetensors"),
    *("pytorch_model.bin", "pytorch_model.bin.index.json", "open_clip_pytorch_model.bin"),
)
"""Names of the weights file in upstream folders, or of its index, in order of preference."""
CONFIG, OPEN_CLIP = "config.json", "open_clip_config.json"
PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"


@dataclass(frozen=True, kw_only=True)
class UpstreamFiles:
    """The files of another project's model."""

    weights: Path
    """The weights file, or the index of a sharded one."""
    config: dict[str, Any]
    """Content of the JSON files beside it."""


def find_upstream(path: Path) -> UpstreamFiles | None:
    """Weights and configuration of another project's file or folder; None for what Vitral wrote, and for no model.

    A file that has the name by which a library finds it in a folder, such as `model.safetensors`, is read with the
    configuration beside it.

    Raises:
        UserError: a JSON file is damaged, or there are no weights, or several.
    """
    if path.is_file():
        named = path.name in WEIGHTS_FILES
        if named and _is_vitral(path.parent) and path.name == WEIGHTS:
            return None
        return UpstreamFiles(weights=path, config=_config(path) if named else {})
    if not path.is_dir() or _is_vitral(path) or (path / "run.json").exists():
        return None
    configured = [name for name in (CONFIG, OPEN_CLIP) if (path / name).is_file()]
    named = [path / name for name in WEIGHTS_FILES if (path / name).is_file()]
    if named and (configured or len(named) == 1):
        return UpstreamFiles(weights=named[0], config=_config(named[0]))
    files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and file.is_file())
    if files and all(index_of(file) for file in files):
        raise UserError(f"{path} has files of a sharded model, but not their index: download {index_of(files[0])} too")
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:5])
        raise UserError(f"{path} has several weights files: name one of {names}")
    if files:
        return UpstreamFiles(weights=files[0], config=_config(files[0]))
    if configured and _is_object(path / configured[0]):
        raise UserError(f"{path} has no weights: it needs one of {', '.join(WEIGHTS_FILES)}")
    return None


def _is_vitral(folder: Path) -> bool:
    """Whether a folder contains a model that Vitral wrote."""
    try:
        content = config.read_json(folder / CONFIG)
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and isinstance(content.get("architecture"), dict)


def _is_object(file: Path) -> bool:
    try:
        return isinstance(config.read_json(file), dict)
    except (OSError, ValueError):
        return False


def _config(weights: Path) -> dict[str, Any]:
    """The configuration beside a weights file: OpenCLIP's for its own names, and where there is no other."""
    folder = weights.parent
    open_clip = weights.name.startswith("open_clip_") or not (folder / CONFIG).is_file()
    if open_clip and (folder / OPEN_CLIP).is_file():
        return read_json(folder / OPEN_CLIP)
    processor = read_json(folder / PROCESSOR).get("image_processor")  # the file of newer versions of transformers
    images = processor if isinstance(processor, dict) else {}
    return {**read_json(folder / CONFIG), **images, **read_json(folder / PREPROCESSOR)}
