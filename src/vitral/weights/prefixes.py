"""Prefixes of tensor names: of wrappers around a model, or of the larger model that an encoder is a part of."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vitral.errors import UserError

__all__ = [
    "Encoder",
    "encoder_config",
    "encoder_prefixes",
    "find_encoder",
    "suggested_prefix",
    "without_training",
    "without_wrapper_parts",
    "without_wrappers",
]

WRAPPERS = (
    *("module", "_orig_mod", "_fsdp_wrapped_module", "model", "teacher", "target_encoder", "backbone", "encoder"),
    *("base_encoder", "net", "network", "student"),
)
"""Parts of prefixes that are tried, in this order, where the names as they are do not fit."""
WRAPPER_PARTS = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""Parts of names that torch.compile, FSDP and activation checkpointing add anywhere, such as in each block."""
MAX_DEPTH = 6
LEFT_OUT = re.compile(
    r"momentum_encoder|base_momentum_encoder|teacher\w*|student\w*|ema\w*|target_encoder|predictor|projector|"
    r"projection_head|proj_head|(dino|ibot)_(head|loss)\w*|mask_decoder|decoder\w*|queue\w*|n_averaged|optimi[sz]er\w*|"
    r"prototypes|criterion|center"
)
"""First parts of names that only training uses, or only another model beside the encoder."""
PROJECTION_HEAD = r"head\.(mlp\.\d+|last_layer)\.|head\.\d+\.running_mean$"
"""Names in heads of self-supervised training: DINO's, and the batch norms of MoCo's."""


TRAINING = ("queue", "queue_ptr", "n_averaged", "decoder_pos_embed", "center")
"""Tensors of training that are in no module of their own."""
FIRST_LAYER = re.compile(r"(.+\.)(patch_embed\.proj|conv_proj|conv1|embeddings\.patch_embedding\S*)\.weight")
"""Names of the first layer in all formats, after a prefix."""
SECTIONS = {
    "encoder": "encoder",
    "backbone": "backbone_config",
    **dict.fromkeys(("vision_model", "vision_tower", "vision_encoder", "image_encoder"), "vision_config"),
}
"""Where transformers' configurations describe an encoder, by the encoder's name in the larger model."""
PREPROCESSING = re.compile(r"image_(mean|std|processor_type)|do_\w+|size|crop_size|resample|rescale_factor")


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """The tensors of an encoder, and what the file has beside it."""

    tensors: dict[str, Tensor]
    """Tensors without their prefix."""
    prefix: str
    """Prefix that was removed."""
    others: tuple[str, ...]
    """Full names outside the prefix that might belong to the model."""
    notes: tuple[str, ...]
    """What was left out, one sentence each."""


def find_encoder(
    tensors: Mapping[str, Tensor], matches: Callable[[dict[str, Tensor]], bool], *, prefix: str | None = None
) -> Encoder | None:
    """The part of a file that is a model of a known format; None if no part is.

    The names as they are come first; then the prefixes of `WRAPPERS`, in any nesting.

    Args:
        tensors: tensors by their full names.
        matches: whether tensors have a known format.
        prefix: the encoder's prefix if the user states it; everything outside it is left out.

    Raises:
        UserError: no name has the prefix.
    """
    start = ""
    if prefix:
        start = prefix if prefix.endswith((".", "/")) else f"{prefix}."
        if not any(name.startswith(start) for name in tensors):
            groups = ", ".join(f"{group}." for group in list(dict.fromkeys(map(_group, tensors)))[:8])
            raise UserError(f"no tensor's name starts with {start}: the names start with {groups}")
    found = _search(tensors, matches, start)
    if found is None:
        return None
    outside = [name for name in tensors if not name.startswith(found)]
    groups, others = Counter[str](), []
    for name in outside:
        parent = _shared(name, found)
        if not name.startswith(start) or _only_trains(name, outside, parent):
            groups[_group(name.removeprefix(parent))] += 1
        else:
            others.append(name)
    notes = [f"only {found} was read; left out: {_counted(groups)}"] if groups else []
    if averaged := [group for group in groups if group.startswith("ema")]:
        notes.append(f"the file also has averaged weights: --prefix {averaged[0]}. reads them")
    return Encoder(tensors=prefixed(tensors, found), prefix=found, others=tuple(others), notes=tuple(notes))


def without_training(names: Collection[str]) -> tuple[list[str], list[str]]:
    """The names that may belong to a model, among those that a format does not know; and a note on the others."""
    unused = [name for name in names if _only_trains(name, names, "")]
    groups = Counter(map(_group, unused))
    notes = [f"left out, because only training uses them: {_counted(groups)}"] if groups else []
    return [name for name in names if name not in unused], notes


def suggested_prefix(tensors: Mapping[str, Tensor], matches: Callable[[dict[str, Tensor]], bool]) -> str | None:
    """A prefix below which the tensors have a known format, anywhere in the names; None if there is none."""
    prefixes = dict.fromkeys(found[1] for name in tensors if (found := FIRST_LAYER.fullmatch(name)))
    return next((prefix for prefix in list(prefixes)[:8] if matches(prefixed(tensors, prefix))), None)


def without_wrapper_parts(name: str) -> str:
    """A name, or a prefix, as it was before the model or its blocks were compiled or wrapped."""
    return WRAPPER_PARTS.sub("", name)


def without_wrappers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by their names before the model or its blocks were compiled or wrapped.

    Raises:
        UserError: two tensors would have one name.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if (new := without_wrapper_parts(name)) in renamed:
            raise UserError(f"it has {new} twice, once in a compiled module: save the state dict of one of them")
        renamed[new] = tensor
    return renamed


def encoder_prefixes(tensors: Mapping[str, Tensor]) -> list[str]:
    """The prefixes of transformers' encoders, which each format removes: more than one would overwrite each other."""
    found = (re.fullmatch(r"(\w+\.)?embeddings\.patch_embedding(s(\.projection)?)?\.weight", name) for name in tensors)
    return list(dict.fromkeys(match[1] or "" for match in found if match))


def encoder_config(upstream_config: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The configuration of the encoder with this prefix: its section, if the configuration has one, and the images'."""
    for part in reversed(prefix.split(".")):
        section = upstream_config.get(SECTIONS.get(part, ""))
        if isinstance(section, Mapping):
            images = {key: value for key, value in upstream_config.items() if PREPROCESSING.fullmatch(key)}
            return {**images, **section}
    return dict(upstream_config)


def prefixed(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names have a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _search(tensors: Mapping[str, Tensor], matches: Callable[[dict[str, Tensor]], bool], start: str) -> str | None:
    """The shortest prefix below which the tensors have a known format."""
    prefixes = [start]
    for prefix in prefixes:
        inside = prefixed(tensors, prefix)
        if matches(inside):
            return prefix
        if prefix.removeprefix(start).count(".") < MAX_DEPTH:
            parts = set(map(_group, inside))
            prefixes += [f"{prefix}{part}." for part in WRAPPERS if part in parts]
    return None


def _group(name: str) -> str:
    """The first part of a name."""
    return re.split(r"[./]", name, maxsplit=1)[0]


def _shared(name: str, prefix: str) -> str:
    """The longest start of a prefix, in whole parts, that a name has too."""
    parts = prefix.split(".")[:-1]
    starts = [".".join(parts[:count]) + "." for count in range(len(parts), 0, -1)]
    return next((start for start in starts if name.startswith(start)), "")


def _only_trains(name: str, names: Collection[str], parent: str) -> bool:
    """Whether a tensor is of a part that only training uses: a decoder, or a head that is no classifier.

    Args:
        name: the full name.
        names: all names beside it.
        parent: prefix that it shares with the model.
    """
    group = _group(name.removeprefix(parent))
    if group == "head" and f"{parent}head.weight" not in names:
        return any(re.match(re.escape(parent) + PROJECTION_HEAD, other) for other in names)
    return bool(LEFT_OUT.fullmatch(group)) and (f"{group}." in name or group in TRAINING)


def _counted(groups: Counter[str]) -> str:
    return ", ".join(f"{group} ({count} tensor{'s' * (count != 1)})" for group, count in groups.items())
