"""What is known of one format."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vitral.errors import UserError
from vitral.vit import ViT
from vitral.vit_config import ViTConfig
from vitral.weights.mapping import Row

__all__ = ["CLIP_MEAN", "CLIP_STD", "Arrays", "Lineage", "counted", "side_of", "usual_heads", "with_folded_cls"]

Arrays = Mapping[str, Tensor]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""How OpenAI's CLIP, and most models after it, scale images."""


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """One project's way of writing weights."""

    name: str
    """What to call it."""
    recognises: Callable[[Arrays], bool]
    """Whether a file's arrays are of this format, by names and shapes."""
    config: Callable[[Arrays, Mapping[str, Any]], ViTConfig]
    """The architecture, from the arrays and the settings beside them, whose numerics are the format's."""
    rows: Callable[[ViTConfig], list[Row]]
    """Where each tensor of a model of that architecture lies."""
    mean: tuple[float, ...]
    """What images are shifted by, of the range 0 to 1, where the file says nothing."""
    std: tuple[float, ...]
    """What they are divided by then."""
    tidied: Callable[[Arrays], dict[str, Tensor]] = dict
    """The file's arrays under the names that the table has: without prefixes, of one layout."""
    positions: tuple[str, ...] = ("learned_1d",)
    """Kinds of position embeddings that it can hold."""
    spare: str = r"(?!)"
    """Regular expression for arrays that belong to the format, but to nothing that a model here computes."""
    caveats: Callable[[ViTConfig], list[str]] = lambda config: []
    """What a reader of such a model should know, a sentence each."""
    finished: Callable[[dict[str, Tensor], ViTConfig], dict[str, Tensor]] = lambda arrays, config: arrays
    """Arrays to be written, under the names that the project itself loads."""
    prepared: Callable[[ViT], dict[str, Tensor]] = lambda model: model.state_dict()
    """A model's state with what the format keeps elsewhere moved there; what the model computes stays the same."""


def counted(arrays: Arrays, prefix: str, suffix: str) -> int:
    """How many numbers from 0 (or 1) on stand between prefix and suffix in names."""
    found = set()
    for name in arrays:
        if name.startswith(prefix) and name.endswith(suffix):
            middle = name[len(prefix) : len(name) - len(suffix)]
            if middle.isdigit():
                found.add(int(middle))
    return len(found)


def side_of(patches: int, *, name: str) -> int:
    """Rows of a square grid.

    Raises:
        UserError: the patches make no square.
    """
    side = math.isqrt(patches)
    if side * side != patches:
        raise UserError(f"{name} has {patches} positions of patches, which make no square grid")
    return side


def usual_heads(width: int) -> int:
    """Attention heads of models of this width, where a format does not say: 64 channels a head, but for the largest.

    Raises:
        UserError: the width is that of no known model.
    """
    heads = {1152: 16, 1280: 16, 1408: 16, 1664: 16, 1792: 16}.get(width, width // 64)
    if not heads or width % heads:
        raise UserError(f"the file does not tell its attention heads, and none are usual at width {width}")
    return heads


def with_folded_cls(model: ViT) -> dict[str, Tensor]:
    """The class token with its position added to it, for formats whose positions have no row for it."""
    state = dict(model.state_dict())
    if "cls_token" in state and "pos_embed" in state:
        positions = state["pos_embed"].clone()
        state["cls_token"] = state["cls_token"] + positions[:, :1]
        positions[:, :1] = 0
        state["pos_embed"] = positions
    return state
