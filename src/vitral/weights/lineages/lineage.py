"""What Vitral knows about one checkpoint format."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from vitral.errors import UserError
from vitral.vit import ViT
from vitral.vit_config import ViTConfig
from vitral.weights.mapping import TensorMapping

__all__ = [
    "CLIP_IMAGES",
    "DINOV3_HEADS",
    "HALF",
    "HEAD_NAMES",
    "IMAGENET",
    "NO_EPSILON",
    "SIGLIP_HEADS",
    "Images",
    "Lineage",
    "Tensors",
    "count_indices",
    "default_num_heads",
    "grid_side",
    "is_shape_error",
    "shape_fields",
    "stated_heads",
    "with_folded_cls",
]

Tensors = Mapping[str, Tensor]

NO_EPSILON = "the file does not store its epsilon"
"""Start of all notes on it."""

DINOV3_HEADS, SIGLIP_HEADS = {1280: 20, 4096: 32}, {1536: 16}
"""Attention heads by width of the published models that differ from others of this width."""


@dataclass(frozen=True, kw_only=True)
class Images:
    """How the models of a format want their images, for files that do not store it."""

    mean: tuple[float, ...]
    """Mean that images of the range 0 to 1 are normalised with."""
    std: tuple[float, ...]
    """Standard deviation that they are normalised with."""
    crop_ratio: float | None = None
    """Fraction of the short side that a centre crop keeps; None: the whole image is squashed."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """Filter that resizes images."""
    like: str = ""
    """Models that have this preprocessing, if others of the format have another."""


HALF: dict[str, Any] = dict(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
"""Normalisation to the range -1 to 1."""
IMAGENET: dict[str, Any] = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
CLIP_IMAGES: dict[str, Any] = dict(
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
    crop_ratio=1.0,
    interpolation="bicubic",
    like="OpenAI's CLIP",
)
"""Preprocessing of OpenAI's CLIP, and of most models after it."""

HEAD_NAMES = (
    r"head[/.](weight|bias|kernel)$|head_dist\.|heads\.head\.|(cls_|distillation_)?classifier\.|visual_projection\.|"
    r"(visual\.)?proj$"
)
"""Regular expression for the names of the head's tensors in all formats."""


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """The checkpoint format of one project.

    Most formats need a few fixes that a table of names cannot express. `canonicalise` applies them to the tensors of a
    file, `finalise` undoes them before writing; `mapping` holds the names in between.
    """

    name: str
    """Name of the format."""
    matches: Callable[[Tensors], bool]
    """Whether canonical tensors have this format, judging by their names and shapes."""
    infer_config: Callable[[Tensors, Mapping[str, Any]], ViTConfig]
    """Architecture from canonical tensors and the upstream `config.json`; the numerics are those of the format."""
    mapping: Callable[[ViTConfig], list[TensorMapping]]
    """Mapping of every tensor of a model with this architecture."""
    images: Callable[[ViTConfig, Mapping[str, Any]], Images]
    """Default preprocessing of models with an architecture and an upstream configuration."""
    num_heads: Callable[[Tensors, Mapping[str, Any]], int | None] = lambda tensors, config: config.get("num_heads")
    """Number of attention heads that canonical tensors or the upstream configuration state; None if neither does, and
    `infer_config` assumes the usual number for the width.
    """
    config_keys: frozenset[str] = frozenset()
    """Keys of the upstream configuration that `infer_config` honours or refuses."""
    config_section: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda config: config
    """The part of the upstream configuration that describes the image encoder."""
    canonicalise: Callable[[Tensors], dict[str, Tensor]] = dict
    """Tensors of a file under the names of the mapping, without prefixes, in one layout."""
    prepare: Callable[[dict[str, Tensor], ViTConfig], dict[str, Tensor]] = lambda tensors, config: tensors
    """Canonical tensors as the mapping of this architecture needs them, where tensors alone do not decide it."""
    positions: tuple[str, ...] = ("learned_1d",)
    """Position embeddings that the format supports."""
    stores: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """For other fields of the architecture, the values that the format can store; without an entry, tensors decide."""
    ignore: str = r"(?!)"
    """Regular expression for tensors of the format that Vitral's model does not use."""
    assumptions: Callable[[ViTConfig, Tensors, Mapping[str, Any]], list[str]] = lambda config, tensors, stated: []
    """Notes on what canonical tensors and the upstream configuration leave open, one sentence each."""
    undecided: Callable[[Tensors, Mapping[str, Any]], dict[str, str]] = lambda tensors, stated: {}
    """Fields of the architecture in which models with such canonical tensors and such a configuration differ, each with
    what the file does not store, and what a user can do: parts of a sentence.
    """
    head: str | None = None
    """Name of the classifier's layer, if one that stands outside the encoder may be read as it."""
    head_inputs: tuple[int, ...] = (1,)
    """Numbers of features that a classifier may read, as multiples of the width."""
    caveats: Callable[[ViTConfig], list[str]] = lambda config: []
    """Warnings about such a model, one sentence each."""
    finalise: Callable[[dict[str, Tensor], ViTConfig], dict[str, Tensor]] = lambda tensors, config: tensors
    """Canonical tensors as the project itself loads them."""
    state_dict: Callable[[ViT], dict[str, Tensor]] = lambda model: model.state_dict()
    """State dict of a model, with values moved between tensors where the format requires it; the model's output stays
    the same.
    """


def count_indices(tensors: Tensors, prefix: str, suffix: str) -> int:
    """Number of distinct integers between prefix and suffix in the names."""
    indices = set()
    for name in tensors:
        if name.startswith(prefix) and name.endswith(suffix):
            middle = name[len(prefix) : len(name) - len(suffix)]
            if middle.isdigit():
                indices.add(int(middle))
    return len(indices)


def grid_side(patches: int, *, name: str) -> int:
    """Side of a square grid, in patches.

    Raises:
        UserError: the number of patches is not a square.
    """
    side = math.isqrt(patches)
    if side * side != patches:
        raise UserError(f"{name} has {patches} patch positions, which is not a square grid")
    return side


def default_num_heads(width: int, published: Mapping[int, int] | None = None) -> int:
    """Usual number of attention heads at this width, for formats that do not store it: width 64, or more if large.

    Args:
        width: width of the tokens.
        published: heads by width of the format's models that have another number.

    Raises:
        UserError: no known model has this width.
    """
    usual = {1152: 16, 1280: 16, 1408: 16, 1664: 16, 1792: 16, **(published or {})}
    heads = usual.get(width, width // 64)
    if not heads or width % heads:
        raise UserError(
            f"the file does not store the number of attention heads, and width {width} has no usual one: "
            "--num-heads (in Python num_heads=) sets it"
        )
    return heads


def is_shape_error(error: Exception) -> bool:
    """Whether an error comes from a tensor of another shape than a format has, and not from a bug."""
    return isinstance(error, IndexError | ValueError | RuntimeError) or "0-d tensor" in str(error)


def shape_fields(
    *, width: int, depth: int, hidden: int, channels: int, patch: tuple[int, int], heads: int | None
) -> dict[str, Any]:
    """Fields of the architecture that shapes give; without a number of heads, it is the usual one for the width."""
    return dict(
        patch_size=patch[0] if patch[0] == patch[1] else patch,
        channels=channels,
        width=width,
        depth=depth,
        num_heads=heads or default_num_heads(width),
        mlp_dim=hidden,
    )


def with_folded_cls(model: ViT) -> dict[str, Tensor]:
    """State dict with the class token's position added to the token, for formats without a row for it."""
    state = dict(model.state_dict())
    if "cls_token" in state and "pos_embed" in state:
        positions = state["pos_embed"].clone()
        state["cls_token"] = state["cls_token"] + positions[:, :1]
        positions[:, :1] = 0
        state["pos_embed"] = positions
    return state


def stated_heads(count: int | None) -> dict[str, Any]:
    """The number of attention heads under the keys that upstream configurations use."""
    return {} if count is None else {"num_heads": count, "num_attention_heads": count}
