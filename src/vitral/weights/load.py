"""Loads a model from a Vitral folder, another project's file or folder, or the Hugging Face Hub."""

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vitral.device import pick_device
from vitral.errors import UserError
from vitral.models import Model
from vitral.vit import ViT
from vitral.vit_config import ViTConfig
from vitral.weights.adapt import adapt_model
from vitral.weights.adapters import Adapter, read_adapter
from vitral.weights.address import HUB_PREFIX, check_address, is_hub_name, to_address
from vitral.weights.folder import load_model
from vitral.weights.options import check_options
from vitral.weights.read import LoadReport, UndecidedError, load_upstream
from vitral.weights.upstream_folder import WEIGHTS_FILES, find_upstream

__all__ = ["load", "load_with_report", "read_back", "stores_architecture"]

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
            PyTorch, TorchScript of CLIP) or folder, also of a LoRA adapter; a published checkpoint's name, such as
            `ViT-S/16@augreg-in21k` (`vitral models --pretrained` lists them); or `hf-hub:OWNER/NAME`, optionally with
            a file, as `hf-hub:OWNER/NAME/FILE`, and with `@REVISION`. The content decides the format, not the name.
        device: device of the model.
        num_classes: number of classes; another number than in the source gives a zero head.
        image_size: image size in pixels; positions are resampled to it.
        patch_size: patch size in pixels; the patch embedding is resized to it.
        channels: number of image channels.
        overrides: fields of the architecture that another project's file does not store, such as `num_heads`;
            `checkpoint_key` and `prefix` as in `load_with_report`.

    Raises:
        UserError: the source does not exist, is damaged, has an unknown format, or is incomplete.
        OSError: the source cannot be read.
    """
    fields = dict(num_classes=num_classes, image_size=image_size, patch_size=patch_size, channels=channels)
    changes = {name: value for name, value in fields.items() if value is not None}
    model, report = load_with_report(source, device=device, **overrides)
    notes = [*report.notes] if report else []
    if changes:
        model, adapted = adapt_model(model, **changes)
        model, notes = model.to(pick_device(device)), notes + adapted
    for note in notes:
        LOG.warning("%s: %s", source, note)
    return model


def load_with_report(
    source: str | Path,
    *,
    device: str | torch.device = "cpu",
    allow_missing: bool = False,
    checkpoint_key: str | None = None,
    prefix: str | None = None,
    **overrides: Any,
) -> tuple[Model, LoadReport | None]:
    """Loads a model without adapting it; also returns how an upstream checkpoint was converted.

    Args:
        source: as in `load`.
        device: as in `load`.
        allow_missing: whether an upstream checkpoint may have missing or unexpected tensors; the report names them.
        checkpoint_key: key of the state dict in a PyTorch file that holds several, such as `student`.
        prefix: prefix of the encoder's tensors in a larger model, such as `encoder.`; the others are left out.
        overrides: as in `load`.

    Returns:
        The model, and the report; None for a Vitral folder.
    """
    path, adapter = _find(source)
    choices = dict(checkpoint_key=checkpoint_key, prefix=prefix)
    choices = {name: value for name, value in choices.items() if value is not None}
    upstream = find_upstream(path)
    if upstream is None and path.is_file():
        path = path.parent  # its config.json has the architecture
    if upstream is None and adapter is not None:
        raise UserError(f"{adapter.folder} adapts {path}, which is no folder or file of another project")
    overrides = check_options(overrides, ViTConfig)
    if upstream is None and (overrides or choices):
        raise UserError(f"{path} stores its whole architecture: leave out {', '.join({**choices, **overrides})}")
    with _garbage_collection_paused():
        if upstream is None:
            return load_model(path, device=device), None
        model, report = load_upstream(
            upstream.weights,
            upstream_config=upstream.config,
            allow_missing=allow_missing,
            adapter=adapter,
            **choices,
            **overrides,
        )
    name = upstream.weights.name
    found = path.is_dir() or str(source).startswith(HUB_PREFIX)
    if found and name not in WEIGHTS_FILES and not str(source).partition("@")[0].endswith(name):
        report = replace(report, notes=(f"{name} was read, the only weights file", *report.notes))
    return model.to(pick_device(device)), report


def read_back(path: Path, model: Model) -> tuple[Model, tuple[str, ...]]:
    """Reads what was just written from a model; what a single file of another project leaves open is as in the model.

    Returns:
        The model, and the fields of the architecture that the file leaves open.

    Raises:
        UserError: the file cannot be read.
    """
    if path.is_dir() or not isinstance(model, ViT):
        return load_with_report(path)[0], ()
    heads = model.config.num_heads
    try:
        return load_with_report(path, num_heads=heads)[0], ()
    except UndecidedError as error:
        fields = {name: getattr(model.config, name) for name in error.fields}
        return load_with_report(path, num_heads=heads, **fields)[0], error.fields


def stores_architecture(source: str | Path) -> bool:
    """Whether a model is Vitral's own, whose folder stores the whole architecture.

    Raises:
        UserError: there is no such model.
    """
    return find_upstream(_find(source)[0]) is None


def _download(address: str) -> Path:
    from vitral.weights.hub import download  # imported here because it takes a fifth of a second

    return download(address)


def _find(source: str | Path) -> tuple[Path, Adapter | None]:
    """Local path of a model, downloaded if it is on the Hub; for an adapter, of the model that it adapts.

    Raises:
        UserError: there is no such model, or the adapter cannot be read.
    """
    check_address(source)
    address = to_address(source)
    path = _download(address) if address.startswith(HUB_PREFIX) else Path(source)
    adapter = read_adapter(path)
    if adapter is None:
        return path, None
    revision = f"@{adapter.revision}" if adapter.revision else ""
    try:
        if Path(adapter.base).exists():
            path = Path(adapter.base)
        elif is_hub_name(adapter.base):
            path = _download(f"{HUB_PREFIX}{adapter.base}{revision}")
        else:
            raise UserError("it does not exist here")
    except UserError as error:
        raise UserError(f"{adapter.folder} adapts {adapter.base}, which cannot be read: {error}") from None
    if read_adapter(path) is not None:
        raise UserError(f"{adapter.folder} adapts {adapter.base}, which is itself an adapter: merge that first")
    return path, adapter


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
