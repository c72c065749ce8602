"""Predictions of a finished run for its final evaluation, saved beside the model."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save

from vitral.config import parse_json
from vitral.errors import UserError, one_line, translate_parser_errors
from vitral.evals.predictions import Predictions
from vitral.evals.target_predictions import TargetPredictions
from vitral.files import write_atomically

__all__ = ["PREDICTIONS", "SavedPredictions", "load_predictions", "save_predictions"]

PREDICTIONS = "predictions.safetensors"
"""Name of the file in a run's folder."""


@dataclass(frozen=True, kw_only=True)
class SavedPredictions:
    """Predictions for the images of a split."""

    split: str
    images: str
    """Fingerprint of the split."""
    predictions: Predictions | TargetPredictions


def save_predictions(folder: Path, saved: SavedPredictions) -> None:
    """Writes predictions into a run's folder."""
    predictions = saved.predictions
    tensors = {name: getattr(predictions, name).contiguous() for name in predictions.COLUMNS}
    metadata = {"split": saved.split, "images": saved.images, "unreadable": json.dumps(predictions.unreadable)}
    if isinstance(predictions, Predictions):
        metadata["num_classes"] = str(predictions.num_classes)
    write_atomically(folder / PREDICTIONS, lambda file: file.write(save(tensors, metadata)))


def load_predictions(folder: Path) -> SavedPredictions | None:
    """Reads saved predictions; None if there are none, or the file is damaged."""
    try:
        with translate_parser_errors(one_line), safe_open(folder / PREDICTIONS, "pt") as file:
            metadata = file.metadata()
            unreadable = metadata.get("unreadable") or metadata["broken"]  # its old name
            kind = Predictions if "num_classes" in metadata else TargetPredictions
            columns: dict[str, Any] = {name: file.get_tensor(name) for name in kind.COLUMNS}
            if kind is Predictions:
                columns["num_classes"] = int(metadata["num_classes"])
            predictions = kind(**columns, unreadable=tuple(parse_json(unreadable, origin=PREDICTIONS)))
            return SavedPredictions(split=metadata["split"], images=metadata["images"], predictions=predictions)
    except (OSError, UserError):
        return None
