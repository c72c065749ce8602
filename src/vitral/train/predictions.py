"""What a finished run said of each image of its final evaluation, kept beside the model."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from vitral.evals.accuracy import Judgements
from vitral.files import write_atomically

__all__ = ["PREDICTIONS", "load_predictions", "save_predictions"]

PREDICTIONS = "predictions.safetensors"
"""The file's name in a run's folder."""


def save_predictions(folder: Path, split: str, found: Judgements) -> None:
    """Writes what was said of the images of a split into a run's folder."""
    tensors = {name: getattr(found, name).contiguous() for name in Judgements.COLUMNS}
    facts = {"split": split, "num_classes": str(found.num_classes), "broken": json.dumps(found.broken)}
    write_atomically(folder / PREDICTIONS, lambda file: file.write(save(tensors, facts)))


def load_predictions(folder: Path) -> tuple[str, Judgements] | None:
    """The split and what was said of its images; None where that was not kept, or cannot be read any more."""
    try:
        with safe_open(folder / PREDICTIONS, "pt") as file:
            facts = file.metadata()
            columns = {name: file.get_tensor(name) for name in Judgements.COLUMNS}
            broken = tuple(json.loads(facts["broken"]))
            return facts["split"], Judgements(**columns, num_classes=int(facts["num_classes"]), broken=broken)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
