"""Loads a model for a command, and prints what its user should know about it."""

import os
from pathlib import Path
from typing import Any

from vitral.commands.output import note
from vitral.errors import UserError
from vitral.export.exported import ExportedModel, is_exported, load_exported
from vitral.models import Model
from vitral.weights.adapt import adapt_model
from vitral.weights.load import load_with_report
from vitral.weights.read import LoadReport

__all__ = ["check_head", "load_and_note", "load_classifier", "note_report", "output_path"]


def load_and_note(where: str | Path, *, image_size: int | None = None, **options: Any) -> Model:
    """`load_with_report`, adapted to an image size in pixels if there is one, with all notes on standard error."""
    model, report = load_with_report(where, **options)
    if report:
        note_report(report)
    if image_size is not None:
        model, notes = adapt_model(model, image_size=image_size)
        for sentence in notes:
            note(sentence)
    return model


def load_classifier(where: str | Path, *, image_size: int | None = None) -> Model | ExportedModel:
    """As `load_and_note`, for a command that needs logits only, which an exported file gives too."""
    return (load_exported if is_exported(where) else load_and_note)(where, image_size=image_size)


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
    """Prints which arrays of another library's file were read, on standard error."""
    note(f"recognised as {report.lineage}: {report.matched} tensors read")
    for sentence in report.notes:
        note(sentence)
    for label, names in (("missing", report.missing), ("unexpected", report.unexpected)):
        if names:
            note(f"{len(names)} {label} arrays: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}")


def output_path(run: Path, name: str) -> Path:
    """The default path of a command's file: in the model's folder, or here if that is no folder or read-only."""
    return run / name if run.is_dir() and os.access(run, os.W_OK | os.X_OK) else Path(name)
