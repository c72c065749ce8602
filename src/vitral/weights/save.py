"""Writes a model in any format: a Vitral folder, a single file, or a folder that timm or transformers can load."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save
from torch import Tensor

from vitral.card import ModelCard
from vitral.errors import UserError
from vitral.files import atomic_folder, write_atomically, write_json
from vitral.models import Model
from vitral.vit import ViT
from vitral.weights.folder import WEIGHTS, check_head, save_model
from vitral.weights.lineages.registry import LINEAGES
from vitral.weights.storable import NotStorable
from vitral.weights.upstream_config import CONFIG_FILES
from vitral.weights.write import check_storable, formats_for, storable, upstream_state_dict, written_headless

__all__ = ["is_folder", "save_as", "save_upstream_folder"]

NUMPY_FORMATS = ("google", "google-linen", "big_vision")
"""Formats of NumPy archives; the others are safetensors files."""


def is_folder(destination: Path, format: str) -> bool:
    """Whether the format is written as a folder: Vitral's always, those of `CONFIG_FILES` if the name has no suffix."""
    return format == "vitral" or (format in CONFIG_FILES and not destination.suffix)


def save_as(model: Model, destination: Path, format: str) -> list[str]:
    """Writes a model in a format, atomically.

    Returns:
        One sentence for each number that the other project computes differently.

    Raises:
        UserError: the format cannot store the model.
        OSError: the destination cannot be written.
    """
    check_head(model)
    if format == "vitral":
        with atomic_folder(destination) as folder:
            save_model(folder, model, _card(model))
        return []
    if not isinstance(model, ViT):
        raise UserError(
            f"the format {format} stores Vision Transformers only, and this model is a ResNet: choose the format vitral"
        )
    if is_folder(destination, format):
        with atomic_folder(destination) as folder:
            return save_upstream_folder(model, folder, format)
    with _other_formats_named(model, ("vitral", *LINEAGES)):
        tensors, caveats = upstream_state_dict(LINEAGES[format], model)
    destination.parent.mkdir(parents=True, exist_ok=True)
    if format in NUMPY_FORMATS:
        named: dict[str, Any] = {name: tensor.numpy() for name, tensor in tensors.items()}
        write_atomically(destination, lambda file: np.savez(file, allow_pickle=False, **named))
    else:
        _write_tensors(tensors, destination)
    return caveats


def save_upstream_folder(model: ViT, folder: Path, format: str) -> list[str]:
    """Writes the weights, and the JSON files that the upstream loader needs, into an existing folder."""
    with _other_formats_named(model, ("vitral", *CONFIG_FILES)):
        model, notes = storable(LINEAGES[format], model)
        check_storable(LINEAGES[format], model.config)
        files = CONFIG_FILES[format](model.config, _card(model), written_headless(model))
        tensors, caveats = upstream_state_dict(LINEAGES[format], model, upstream_config=files["config.json"])
    _write_tensors(tensors, folder / WEIGHTS)
    for name, content in files.items():
        write_json(folder / name, content)
    return [*notes, *caveats]


@contextmanager
def _other_formats_named(model: ViT, formats: Collection[str]) -> Iterator[None]:
    """Adds those of `formats` that can store the model to the error of one that cannot."""
    try:
        yield
    except NotStorable as error:
        *others, last = (name for name in formats_for(model) if name in formats)
        can = f"these can: {', '.join(others)} and {last}" if others else f"only {last} can"
        raise UserError(f"{error}; {can}") from None


def _write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    write_atomically(path, lambda file: file.write(save(tensors, metadata={"format": "pt"})))


def _card(model: Model) -> ModelCard:
    if model.card is None:
        raise UserError("the model has no card with preprocessing and class names: set model.card")
    return model.card
