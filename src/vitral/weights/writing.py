"""A model written in one of the formats: Vitral's folder, a single file, or a folder that its owner's loader takes."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save
from torch import Tensor

from vitral.card import ModelCard
from vitral.errors import UserError
from vitral.files import whole_folder, write_atomically, write_json
from vitral.models import Model
from vitral.vit import ViT
from vitral.weights.folder import WEIGHTS, save_model
from vitral.weights.foreign import LINEAGES, written_as
from vitral.weights.settings import SETTINGS

__all__ = ["is_folder", "write_model", "write_settled"]

ARCHIVES = ("google", "google-linen", "big_vision")
"""Formats that are NumPy archives; the others are safetensors."""


def is_folder(destination: Path, form: str) -> bool:
    """Whether a model goes into a folder there: Vitral's own always, the Hub's formats where the name has no ending."""
    return form == "vitral" or (form in SETTINGS and not destination.suffix)


def write_model(model: Model, destination: Path, form: str) -> list[str]:
    """Writes a model in a format, whole or not at all; a sentence for each number that is computed otherwise there.

    Raises:
        UserError: the format has no place for what the model is made of.
        OSError: it cannot be written.
    """
    if form == "vitral":
        with whole_folder(destination) as folder:
            save_model(folder, model, _card(model))
        return []
    if not isinstance(model, ViT):
        raise UserError(f"the format {form} is one of Vision Transformers, and this model is a ResNet")
    if is_folder(destination, form):
        with whole_folder(destination) as folder:
            return write_settled(model, folder, form)
    arrays, caveats = written_as(LINEAGES[form], model)
    destination.parent.mkdir(parents=True, exist_ok=True)
    if form in ARCHIVES:
        named: dict[str, Any] = {name: array.numpy() for name, array in arrays.items()}
        write_atomically(destination, lambda file: np.savez(file, allow_pickle=False, **named))
    else:
        _write_tensors(arrays, destination)
    return caveats


def write_settled(model: ViT, folder: Path, form: str) -> list[str]:
    """Writes the weights and what the owner's loader wants beside them into a folder that is there."""
    described = SETTINGS[form](model.config, _card(model))
    arrays, caveats = written_as(LINEAGES[form], model, settings=described["config.json"])
    _write_tensors(arrays, folder / WEIGHTS)
    for name, content in described.items():
        write_json(folder / name, content)
    return caveats


def _write_tensors(arrays: dict[str, Tensor], path: Path) -> None:
    write_atomically(path, lambda file: file.write(save(arrays, metadata={"format": "pt"})))


def _card(model: Model) -> ModelCard:
    if model.card is None:
        raise UserError("the model has no card, which tells preprocessing and class names: give it one")
    return model.card
