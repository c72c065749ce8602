"""Published checkpoints by name, such as `ViT-S/16@augreg-in21k`."""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from vitral.errors import UserError, did_you_mean

__all__ = ["Pretrained", "find_pretrained", "list_pretrained"]


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A checkpoint on the Hugging Face Hub."""

    name: str
    """The model, and after the @ what it was trained on."""
    hub_id: str
    """OWNER/NAME on the Hub."""
    licence: str
    """Licence of the weights, as the Hub spells it."""
    image_size: int
    """Height and width of the images it was trained on last, in pixels."""
    num_classes: int
    """Outputs of its head; 0: it has none, and gives features."""
    parameters: int
    """Number of parameters, the head's included."""
    top1: float | None
    """Top-1 accuracy on ImageNet's validation images in per cent, as timm measured it; None: it was not."""

    @property
    def address(self) -> str:
        """The name that `vitral.load` downloads it by."""
        return f"hf-hub:{self.hub_id}"

    @property
    def num_bytes(self) -> int:
        """Size of the download, in float32."""
        return 4 * self.parameters


@cache
def list_pretrained() -> dict[str, Pretrained]:
    """Every published checkpoint by its name.

    Source: the registry of timm 1.0 and its results-imagenet.csv.
    """
    text = (files("vitral.weights") / "pretrained.tsv").read_text()
    return {row["name"]: _entry(row) for row in csv.DictReader(text.splitlines(), delimiter="\t")}


def _entry(row: dict[str, str]) -> Pretrained:
    counts = {key: int(row[key]) for key in ("image_size", "num_classes", "parameters")}
    top1 = float(row["top1"]) if row["top1"] else None
    return Pretrained(name=row["name"], hub_id=row["hub_id"], licence=row["licence"], top1=top1, **counts)


def find_pretrained(name: str) -> Pretrained | None:
    """The checkpoint of a name; None if the name has another form.

    Raises:
        UserError: the name has the form MODEL@TRAINING, and there is no such checkpoint.
    """
    if (entry := list_pretrained().get(name)) is not None:
        return entry
    if "ViT-" not in name or "@" not in name or ":" in name:
        return None
    raise UserError(
        f"there is no checkpoint {name}{did_you_mean(name, list_pretrained())}: vitral models --pretrained lists them"
    )
