"""The checkpoint formats by name, and which of them a file has."""

from pathlib import Path
from typing import Any

from torch import Tensor

from vitral.errors import UserError
from vitral.weights.lineages.dino import DINOV2, DINOV3
from vitral.weights.lineages.google import BIG_VISION, GOOGLE, GOOGLE_LINEN
from vitral.weights.lineages.lineage import Lineage, is_shape_error
from vitral.weights.lineages.official import FACEBOOK_DINOV2, FACEBOOK_DINOV3, MAE, MOCO_V3
from vitral.weights.lineages.open_clip import OPEN_CLIP
from vitral.weights.lineages.timm import TIMM
from vitral.weights.lineages.torchvision import TORCHVISION
from vitral.weights.lineages.towers import CLIP, SIGLIP
from vitral.weights.lineages.transformers import TRANSFORMERS

__all__ = ["LINEAGES", "detect_lineage", "matching_lineage"]

LINEAGES: dict[str, Lineage] = {
    lineage.name: lineage
    for lineage in (
        *(GOOGLE, GOOGLE_LINEN, BIG_VISION),
        *(FACEBOOK_DINOV2, FACEBOOK_DINOV3, MAE, MOCO_V3, TIMM, TORCHVISION),  # all but the last have timm's names
        *(TRANSFORMERS, DINOV2, DINOV3, SIGLIP, CLIP, OPEN_CLIP),
    )
}
"""Formats by name, in the order in which they are looked for."""


def detect_lineage(tensors: dict[str, Tensor], path: Path, *, stated: Any = None) -> tuple[Lineage, dict[str, Tensor]]:
    """Format of a file, and its tensors under the names of the format's mapping.

    Args:
        tensors: tensors by name.
        path: the file.
        stated: the kind of model that its configuration states, if there is one.

    Raises:
        UserError: the format is unknown.
    """
    if (found := matching_lineage(tensors)) is not None:
        return found
    if isinstance(stated, str):
        raise UserError(f"{path} has an unknown format: its config.json states {stated}, which Vitral does not read")
    examples = ", ".join(sorted(tensors)[:3]) or "nothing"
    raise UserError(
        f"{path} has an unknown format: it contains {len(tensors)} tensors such as {examples}; "
        f"supported formats are {', '.join(LINEAGES)}"
    )


def matching_lineage(tensors: dict[str, Tensor]) -> tuple[Lineage, dict[str, Tensor]] | None:
    """The first format that matches, and the canonical tensors; None if none does."""
    for lineage in LINEAGES.values():
        try:
            canonical = lineage.canonicalise(tensors)
            if lineage.matches(canonical):
                return lineage, canonical
        except (KeyError, IndexError, ValueError, RuntimeError, TypeError) as error:
            if not isinstance(error, KeyError) and not is_shape_error(error):
                raise
            continue  # names as in this format, but shapes that it never has
    return None
