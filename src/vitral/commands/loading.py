"""Loads a model for a command, and prints what its user should know about it."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitral.commands.output import note
from vitral.data.config import DataConfig
from vitral.errors import UserError
from vitral.export.exported import ExportedModel, is_exported, load_exported
from vitral.models import Model
from vitral.serve.predictor import NOT_FINITE
from vitral.token_merging import merge_tokens
from vitral.weights.adapt import adapt_model
from vitral.weights.load import load_with_report
from vitral.weights.read import LoadReport

__all__ = [
    "channels_of",
    "check_channels",
    "check_finite",
    "check_head",
    "load_and_note",
    "load_classifier",
    "note_report",
    "output_path",
]


def load_and_note(
    where: str | Path, *, image_size: int | None = None, token_merging: int | None = None, **options: Any
) -> Model:
    """`load_with_report`, adapted to an image size in pixels if there is one, with all notes on standard error.

    With `token_merging`, each block merges so many pairs of tokens, as in `merge_tokens`.
    """
    model, report = load_with_report(where, **options)
    if report:
        note_report(report)
    if image_size is not None:
        model, notes = adapt_model(model, image_size=image_size)
        for sentence in notes:
            note(sentence)
    if token_merging is not None:
        merge_tokens(model, token_merging)
    return model


def load_classifier(
    where: str | Path, *, image_size: int | None = None, token_merging: int | None = None, **options: Any
) -> Model | ExportedModel:
    """As `load_and_note`, for a command that needs logits only, which an exported file gives too."""
    if not is_exported(where):
        return load_and_note(where, image_size=image_size, token_merging=token_merging, **options)
    if token_merging is not None:
        raise UserError(f"{where} is an exported file: export the model it was made from with --token-merging")
    return load_exported(where, image_size=image_size)


def channels_of(model: Model | ExportedModel) -> int | None:
    """The value of `--data.channels` that fits a model; None if it takes pictures."""
    preprocessing = model.card.preprocessing if model.card else None
    return preprocessing.channels if preprocessing and preprocessing.bands else None


def check_channels(model: Model | ExportedModel, data: DataConfig) -> None:
    """Checks that data are images of the kind that a model takes.

    Raises:
        UserError: their number of channels differs, or only one of them takes pictures.
    """
    if data.channels != (channels := channels_of(model)):
        takes = "pictures: leave out --data.channels" if channels is None else f"{channels} channels: give that number"
        raise UserError(f"--data.channels is {data.channels}, and the model takes {takes}")


@torch.inference_mode()
def check_finite(model: Model, where: str | Path) -> None:
    """Computes a black image, as damaged weights give no sensible picture either.

    Raises:
        UserError: the model's outputs are not finite.
    """
    assert model.card is not None
    preprocessing = model.card.preprocessing
    if preprocessing.bands and not preprocessing.mean:
        return  # such a model takes no image before it is trained
    black = torch.from_numpy(np.zeros((1, *preprocessing.shape), preprocessing.dtype))
    images = preprocessing.normalise(black)
    outputs = model(images) if model.card.classes else model.features(images).pooled
    if not outputs.isfinite().all():
        raise UserError(f"{where}: {NOT_FINITE}")


def check_head(model: Model | ExportedModel, where: str | Path) -> None:
    """Checks that a model can name classes.

    Raises:
        UserError: its head was never trained.
    """
    if model.card is not None and not model.card.classes:
        raise UserError(
            f"{where} has no trained head, so it predicts no classes: evaluate its features with vitral eval {where} "
            f"--suite knn, or train a head with vitral train finetune --model.weights {where}"
        )


def note_report(report: LoadReport) -> None:
    """Prints which tensors of another library's file were read, on standard error."""
    note(f"recognised as {report.lineage}: {report.matched} tensors read")
    for sentence in report.notes:
        note(sentence)
    for label, names in (("missing", report.missing), ("unexpected", report.unexpected)):
        if names:
            note(f"{len(names)} {label} tensors: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}")


def output_path(run: Path, name: str) -> Path:
    """The default path of a command's file: in the model's folder, or here if that is no folder or read-only."""
    return run / name if run.is_dir() and os.access(run, os.W_OK | os.X_OK) else Path(name)
