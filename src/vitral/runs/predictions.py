"""What a finished run said of each image of its final evaluation, kept beside the model."""

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from vitral.evals.accuracy import Predictions
from vitral.files import write_atomically

__all__ = ["PREDICTIONS", "SavedPredictions", "load_predictions", "save_predictions"]

PREDICTIONS = "predictions.safetensors"
"""The file's name in a run's folder."""


@dataclass(frozen=True, kw_only=True)
class SavedPredictions:
    """What a model said of the images of a split."""

    split: str
    images: str
    """The split's fingerprint: where it is the same, the images were."""
    predictions: Predictions


def save_predictions(folder: Path, kept: SavedPredictions) -> None:
    """Writes what was said of the images of a split into a run's folder."""
    found = kept.predictions
    tensors = {name: getattr(found, name).contiguous() for name in Predictions.COLUMNS}
    facts = {
        "split": kept.split,
        "images": kept.images,
        "num_classes": str(found.num_classes),
        "unreadable": json.dumps(found.unreadable),
    }
    write_atomically(folder / PREDICTIONS, lambda file: file.write(save(tensors, facts)))


def load_predictions(folder: Path) -> SavedPredictions | None:
    """What was kept; None where nothing was, or it cannot be read any more."""
    try:
        with safe_open(folder / PREDICTIONS, "pt") as file:
            facts = file.metadata()
            columns = {name: file.get_tensor(name) for name in Predictions.COLUMNS}
            unreadable = tuple(json.loads(facts.get("unreadable") or facts["broken"]))  # its first name
            found = Predictions(**columns, num_classes=int(facts["num_classes"]), unreadable=unreadable)
            return SavedPredictions(split=facts["split"], images=facts["images"], predictions=found)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
