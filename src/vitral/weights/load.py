"""A model from wherever its weights are: a Vitral folder, another project's file or folder, the Hugging Face Hub."""

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
from vitral.weights.adapt import adapted
from vitral.weights.arrays import read_json
from vitral.weights.folder import WEIGHTS, load_model
from vitral.weights.foreign import LoadReport, read_foreign
from vitral.weights.hub import HUB, WEIGHTS_FILES, download

__all__ = ["load", "load_with_report"]

LOG = logging.getLogger("vitral")


def load(
    where: str | Path,
    *,
    device: str | torch.device = "cpu",
    num_classes: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    patch_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    **told: Any,
) -> Model:
    """Reads a model in float32 and evaluation mode, its card attached.

    Args:
        where: a folder that Vitral wrote, or the weights in it; another project's file (`.npz`, `.safetensors`,
            PyTorch's) or folder; or `hf-hub:OWNER/NAME` with `@REVISION` or without. A format is recognised
            from what it holds, not by name.
        device: to put the model on.
        num_classes: of the model; another number than it was trained for gives a head of zeros.
        image_size: in pixels, for which positions are resampled.
        patch_size: in pixels, to which the patch embedding is resized.
        channels: of the images.
        told: fields of the architecture that another project's file does not tell, such as `num_heads`.

    What is not as it was in the file, and what is adapted to these wishes, is logged as a warning each.

    Raises:
        UserError: there is nothing such, or it is damaged, of an unknown format, or incomplete.
        OSError: it cannot be read.
    """
    wishes = dict(num_classes=num_classes, image_size=image_size, patch_size=patch_size, channels=channels)
    model, report = load_with_report(where, device=device, **told)
    model, said = adapted(model, **{name: value for name, value in wishes.items() if value is not None})
    for sentence in (*(report.notes if report else ()), *said):
        LOG.warning("%s: %s", where, sentence)
    return model.to(pick_device(device))


def load_with_report(
    where: str | Path, *, device: str | torch.device = "cpu", allow_missing: bool = False, **told: Any
) -> tuple[Model, LoadReport | None]:
    """A model as it lies there, and what became of another project's arrays; None for a folder of Vitral's own.

    Args:
        where: as in `load`.
        device: as in `load`.
        allow_missing: whether another project's arrays may be missing or left over; the report names them.
        told: as in `load`.
    """
    path = download(str(where)) if str(where).startswith(HUB) else Path(where)
    if path.name == WEIGHTS and _is_own(path.parent):
        path = path.parent  # what they mean, the folder tells
    settings = _settings(path)
    foreign = path.is_file() or settings is not None
    if told and not foreign:
        raise UserError(f"{path} says itself what it is made of: leave out {', '.join(told)}")
    with _uncollected():
        if not foreign:
            return load_model(path, device=device), None
        file = path if path.is_file() else _weights_in(path)
        model, report = read_foreign(file, settings=settings, allow_missing=allow_missing, **told)
        return model.to(pick_device(device)), report


@contextmanager
def _uncollected() -> Iterator[None]:
    """Garbage collection waits: a model leaves none, and looking through PyTorch's objects takes longer than it."""
    active = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if active:
            gc.enable()


def _is_own(folder: Path) -> bool:
    """Whether Vitral wrote a folder with a model."""
    try:
        found = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and isinstance(found.get("architecture"), dict)


def _settings(path: Path) -> dict[str, Any] | None:
    """What another project's folder says of its model; None for Vitral's own folders and for single files.

    Raises:
        UserError: the file on preprocessing is damaged.
    """
    try:
        found = json.loads((path / "config.json").read_text())
    except (OSError, ValueError):
        return None  # what is wrong with it, the reader of Vitral's folders says
    foreign = isinstance(found, dict) and not isinstance(found.get("architecture"), dict)
    if not foreign or (path / "run.json").exists():
        return None
    return {**found, **read_json(path / "preprocessor_config.json")}


def _weights_in(folder: Path) -> Path:
    for name in WEIGHTS_FILES:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder} has no weights: there is no {' and no '.join(WEIGHTS_FILES)}")
