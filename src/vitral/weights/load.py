"""A model from wherever its weights are: a Vitral folder, another project's file or folder, the Hugging Face Hub."""

import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from vitral.device import pick_device
from vitral.models import Model
from vitral.weights.arrays import read_json
from vitral.weights.folder import load_model
from vitral.weights.foreign import LoadReport, read_foreign

__all__ = ["load", "load_with_report"]

HUB = "hf-hub:"
WEIGHTS = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin")
"""Where other projects' folders have their weights; the first that is there."""


def load(where: str | Path, *, device: str | torch.device = "cpu", **changes: Any) -> Model:
    """Reads a model in float32 and evaluation mode, its card attached.

    Args:
        where: a folder that Vitral wrote, another project's file (`.npz`, `.safetensors`, PyTorch's) or folder, or
            `hf-hub:OWNER/NAME` with `@REVISION` or without. A format is recognised from what it holds, not by name.
        device: to put the model on.
        changes: fields of the architecture that another project's file does not tell, such as `num_heads`.

    Raises:
        ValueError: there is nothing such, or it is damaged, of an unknown format, or incomplete.
        OSError: it cannot be read.
    """
    return load_with_report(where, device=device, **changes)[0]


def load_with_report(
    where: str | Path, *, device: str | torch.device = "cpu", allow_missing: bool = False, **changes: Any
) -> tuple[Model, LoadReport | None]:
    """As `load`, and what became of another project's arrays; None for a folder of Vitral's own.

    Args:
        where: as in `load`.
        device: as in `load`.
        allow_missing: whether another project's arrays may be missing or left over; the report names them.
        changes: as in `load`.
    """
    path = _downloaded(str(where)) if str(where).startswith(HUB) else Path(where)
    settings = _settings(path)
    if settings is not None:
        settings = {**settings, **read_json(path / "preprocessor_config.json")}
    if path.is_file() or settings is not None:
        file = path if path.is_file() else _weights_in(path)
        model, report = read_foreign(file, settings=settings, allow_missing=allow_missing, **changes)
        return model.to(pick_device(device)), report
    if changes:
        raise ValueError(f"{path} says itself what it is made of: leave out {', '.join(changes)}")
    return load_model(path, device=device), None


def _settings(path: Path) -> dict[str, Any] | None:
    """What another project's folder says of its model; None for Vitral's own folders and for single files."""
    try:
        found = json.loads((path / "config.json").read_text())
    except (OSError, ValueError):
        return None  # what is wrong with it, the reader of Vitral's folders says
    foreign = isinstance(found, dict) and not isinstance(found.get("architecture"), dict)
    return found if foreign and not (path / "run.json").exists() else None


def _weights_in(folder: Path) -> Path:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise ValueError(f"{folder} has no weights: there is no {' and no '.join(WEIGHTS)}")


def _downloaded(where: str) -> Path:
    """The Hub's folder on disk, from the cache where it has it."""
    name, _, revision = where.removeprefix(HUB).partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=["*.json", *WEIGHTS]))
    except LocalEntryNotFoundError:
        raise ValueError(f"{where} is not in the cache, and the Hub is out of reach: connect, or name a file") from None
    except (HfHubHTTPError, HFValidationError) as error:
        raise ValueError(f"{where} cannot be had: {str(error).splitlines()[0]}") from None
