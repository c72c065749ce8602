"""What a finished run said of each image of its final evaluation, kept beside the model."""

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from vitral.evals.accuracy import Judgements
from vitral.files import write_atomically

__all__ = ["PREDICTIONS", "Predictions", "load_predictions", "save_predictions"]

PREDICTIONS = "predictions.safetensors"
"""The file's name in a run's folder."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a model said of the images of a split."""

    split: str
    images: str
    """The split's fingerprint: where it is the same, the images were."""
    judgements: Judgements


def save_predictions(folder: Path, kept: Predictions) -> None:
    """Writes what was said of the images of a split into a run's folder."""
    found = kept.judgements
    tensors = {name: getattr(found, name).contiguous() for name in Judgements.COLUMNS}
    facts = {
        "split": kept.split,
        "images": kept.images,
        "num_classes": str(found.num_classes),
        "broken": json.dumps(found.broken),
    }
    write_atomically(folder / PREDICTIONS, lambda file: file.write(save(tensors, facts)))


def load_predictions(folder: Path) -> Predictions | None:
    """What was kept; None where nothing was, or it cannot be read any more."""
    try:
        with safe_open(folder / PREDICTIONS, "pt") as file:
            facts = file.metadata()
            columns = {name: file.get_tensor(name) for name in Judgements.COLUMNS}
            broken = tuple(json.loads(facts["broken"]))
            found = Judgements(**columns, num_classes=int(facts["num_classes"]), broken=broken)
            return Predictions(split=facts["split"], images=facts["images"], judgements=found)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
