"""A model from wherever a command's user has it, and what people should know of its reading."""

import os
from pathlib import Path
from typing import Any

from vitral.commands.output import note
from vitral.models import Model
from vitral.weights.convert import LoadReport
from vitral.weights.load import load_with_report

__all__ = ["beside", "load_checkpoint", "tell"]


def load_checkpoint(where: str | Path, **options: Any) -> Model:
    """`load_with_report` that tells people, on standard error, what became of another project's arrays."""
    model, report = load_with_report(where, **options)
    if report:
        tell(report)
    return model


def tell(report: LoadReport) -> None:
    """What became of the source's arrays, for people."""
    note(f"recognised as {report.lineage}: {report.matched} tensors read")
    for sentence in report.notes:
        note(sentence)
    for label, names in (("missing", report.missing), ("left over", report.unexpected)):
        if names:
            note(f"{len(names)} arrays {label}: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}")


def beside(where: Path, name: str) -> Path:
    """Where a command leaves a file by default: in the model's folder, or here where that is none or not writable."""
    return where / name if where.is_dir() and os.access(where, os.W_OK | os.X_OK) else Path(name)
