"""Loads a model from a Vitral folder, another project's file or folder, or the Hugging Face Hub."""

import gc
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from vitral.device import pick_device
from vitral.errors import UserError
from vitral.models import Model
from vitral.weights.adapt import adapt_model
from vitral.weights.convert import LoadReport, load_upstream
from vitral.weights.folder import WEIGHTS, load_model
from vitral.weights.hub import HUB_PREFIX, WEIGHTS_FILES, download
from vitral.weights.tensor_file import read_json

__all__ = ["load", "load_with_report"]

LOG = logging.getLogger("vitral")


def load(
    source: str | Path,
    *,
    device: str | torch.device = "cpu",
    num_classes: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    patch_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    **overrides: Any,
) -> Model:
    """Loads a model in float32 and evaluation mode, with its card.

    Every conversion and every adaptation is logged as a warning.

    Args:
        source: a Vitral model folder, or the weights file in it; another project's file (`.npz`, `.safetensors`,
            PyTorch) or folder; or `hf-hub:OWNER/NAME`, optionally with `@REVISION`. The format is detected from the
            content, not from the name.
        device: device of the model.
        num_classes: number of classes; another number than in the source gives a zero head.
        image_size: image size in pixels; positions are resampled to it.
        patch_size: patch size in pixels; the patch embedding is resized to it.
        channels: number of image channels.
        overrides: fields of the architecture that another project's file does not store, such as `num_heads`.

    Raises:
        UserError: the source does not exist, is damaged, has an unknown format, or is incomplete.
        OSError: the source cannot be read.
    """
    changes = dict(num_classes=num_classes, image_size=image_size, patch_size=patch_size, channels=channels)
    model, report = load_with_report(source, device=device, **overrides)
    model, notes = adapt_model(model, **{name: value for name, value in changes.items() if value is not None})
    for note in (*(report.notes if report else ()), *notes):
        LOG.warning("%s: %s", source, note)
    return model.to(pick_device(device))


def load_with_report(
    source: str | Path, *, device: str | torch.device = "cpu", allow_missing: bool = False, **overrides: Any
) -> tuple[Model, LoadReport | None]:
    """Loads a model without adapting it; also returns how an upstream checkpoint was converted.

    Args:
        source: as in `load`.
        device: as in `load`.
        allow_missing: whether an upstream checkpoint may have missing or unexpected tensors; the report names them.
        overrides: as in `load`.

    Returns:
        The model, and the report; None for a Vitral folder.
    """
    path = download(str(source)) if str(source).startswith(HUB_PREFIX) else Path(source)
    if path.name == WEIGHTS and _is_vitral_folder(path.parent):
        path = path.parent  # its config.json has the architecture
    upstream_config = _read_upstream_config(path)
    upstream = path.is_file() or upstream_config is not None
    if overrides and not upstream:
        raise UserError(f"{path} stores its whole architecture: leave out {', '.join(overrides)}")
    with _garbage_collection_paused():
        if not upstream:
            return load_model(path, device=device), None
        file = path if path.is_file() else _weights_file(path)
        model, report = load_upstream(file, upstream_config=upstream_config, allow_missing=allow_missing, **overrides)
        return model.to(pick_device(device)), report


@contextmanager
def _garbage_collection_paused() -> Iterator[None]:
    """Loading creates no garbage, and scanning PyTorch's objects would take longer than loading."""
    active = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if active:
            gc.enable()


def _is_vitral_folder(folder: Path) -> bool:
    """Whether a folder contains a model that Vitral wrote."""
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and isinstance(config.get("architecture"), dict)


def _read_upstream_config(path: Path) -> dict[str, Any] | None:
    """Reads the JSON files of another project's folder; None for Vitral folders and for single files.

    Raises:
        UserError: `preprocessor_config.json` is damaged.
    """
    try:
        config = json.loads((path / "config.json").read_text())
    except (OSError, ValueError):
        return None  # load_model reports the error
    upstream = isinstance(config, dict) and not isinstance(config.get("architecture"), dict)
    if not upstream or (path / "run.json").exists():
        return None
    return {**config, **read_json(path / "preprocessor_config.json")}


def _weights_file(folder: Path) -> Path:
    for name in WEIGHTS_FILES:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder} has no weights: it contains no {' and no '.join(WEIGHTS_FILES)}")
