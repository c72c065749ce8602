"""Weights of other projects: recognised by what they hold, read into our model, and written back."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitral.errors import UserError
from vitral.models import blank_model, give_buffers
from vitral.vit import ViT
from vitral.weights.arrays import read_arrays
from vitral.weights.foreign_card import foreign_card
from vitral.weights.lineages.google import BIG_VISION, GOOGLE, GOOGLE_LINEN
from vitral.weights.lineages.lineage import Lineage
from vitral.weights.lineages.timm import TIMM
from vitral.weights.lineages.torchvision import TORCHVISION
from vitral.weights.lineages.towers import CLIP, OPEN_CLIP, SIGLIP
from vitral.weights.lineages.transformers import DINOV2, DINOV3, TRANSFORMERS
from vitral.weights.mapping import from_theirs, to_theirs

__all__ = ["LINEAGES", "LoadReport", "read_foreign", "written_as"]

LINEAGES: dict[str, Lineage] = {
    lineage.name: lineage
    for lineage in (
        *(GOOGLE, GOOGLE_LINEN, BIG_VISION, TIMM, TORCHVISION),
        *(TRANSFORMERS, DINOV2, DINOV3, SIGLIP, CLIP, OPEN_CLIP),
    )
}
"""Formats by name."""

STRUCTURE = (
    *("image_hw", "patch_hw", "channels", "stem_stages", "width", "depth", "num_heads", "mlp_dim", "num_classes"),
    *("pool", "num_registers", "position", "position_injection", "attention", "qk_norm", "mlp", "representation_size"),
    *("distillation", "qkv_bias", "patch_bias", "pre_norm", "pooled_norm"),
)
"""What a format must tell of a model, by its arrays' names and shapes."""
HEADS = (
    r"head[/.](weight|bias|kernel)$|head_dist\.|heads\.head\.|(cls_|distillation_)?classifier\.|visual_projection\.|"
    r"(visual\.)?proj$"
)
"""How formats call the head's arrays."""


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What became of a file's arrays."""

    lineage: str
    """The format."""
    matched: int
    """Tensors of the model that were read."""
    missing: tuple[str, ...] = ()
    """Names in the format of arrays that the model needs and the file has not; their tensors start fresh."""
    unexpected: tuple[str, ...] = ()
    """Names of arrays that the model has no place for."""
    notes: tuple[str, ...] = field(default=())
    """One sentence on everything else that was not simply copied."""


def read_foreign(
    path: Path, *, settings: Mapping[str, Any] | None = None, allow_missing: bool = False, **changes: Any
) -> tuple[ViT, LoadReport]:
    """Reads another project's file as a model in float32 and evaluation mode, its card attached.

    A file without a head gives a model with a head of zeros, and says so.

    Args:
        path: an archive of NumPy, a safetensors file, or PyTorch's own.
        settings: what stands beside the weights in the other project, such as its `config.json`.
        allow_missing: whether arrays may be missing or left over.
        changes: fields of the architecture that the file does not tell, or that are to be otherwise.

    Raises:
        UserError: the format is not known, arrays are missing, left over or of wrong shape, or hold no numbers.
        OSError: the file cannot be read.
    """
    lineage, arrays = recognised(read_arrays(path), path)
    told = {**(settings or {}), **_heads(changes.get("num_heads"))}
    try:
        config = replace(lineage.config(arrays, told), **changes)
        state, missing, unexpected = from_theirs(lineage.rows(config), arrays)
    except (KeyError, IndexError, ValueError, TypeError, RuntimeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UserError(f"{path} looks like {lineage.name}, but cannot be read: {reason}") from None
    model = blank_model(config)
    assert isinstance(model, ViT)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    notes = [*_dtypes(state), *lineage.caveats(config)]
    spare = [name for name in unexpected if re.search(lineage.spare, name)]
    unexpected = [name for name in unexpected if name not in spare]
    if spare:
        notes.append(f"left out, as nothing here computes with it: {', '.join(spare)}")
    if not any(name.startswith("head.") for name in state):
        missing = [name for name in missing if not re.match(HEADS, name)]
        notes.append(f"the file has no head: one of zeros for {config.num_classes} classes takes its place")
        state |= {name: torch.zeros(wanted[name]) for name in wanted if name.startswith("head.")}
    if (missing or unexpected) and not allow_missing:
        raise UserError(f"{path}: {_unmatched(missing, unexpected)}; allow that with --allow-missing")
    for name, tensor in state.items():
        if wanted[name] != tuple(tensor.shape):
            raise UserError(f"{path}: {name} has shape {tuple(tensor.shape)}, where the model has {wanted[name]}")
        if not torch.isfinite(tensor.sum(dtype=torch.float32)):
            raise UserError(f"{path}: {name} holds numbers that are not finite")
    if missing:
        model.to_empty(device="cpu").init_weights()
    else:
        give_buffers(model, torch.device("cpu"))
    floats = {name: tensor.float().contiguous() for name, tensor in state.items()}
    model.load_state_dict(floats, strict=False, assign=not missing)
    model.card = foreign_card(config, lineage, told, origin=path.name)
    report = LoadReport(
        lineage=lineage.name,
        matched=len(state),
        missing=tuple(missing),
        unexpected=tuple(unexpected),
        notes=tuple(notes),
    )
    return model.eval(), report


def recognised(arrays: dict[str, Tensor], path: Path) -> tuple[Lineage, dict[str, Tensor]]:
    """The format of a file's arrays, and the arrays as its table names them.

    Raises:
        UserError: no format is recognised; the sentence says what was found.
    """
    for lineage in LINEAGES.values():
        tidy = lineage.tidied(arrays)
        if lineage.recognises(tidy):
            return lineage, tidy
    some = ", ".join(sorted(arrays)[:3]) or "nothing"
    raise UserError(
        f"{path} is of no format that is known: it holds {len(arrays)} arrays such as {some}; "
        f"known are {', '.join(LINEAGES)}"
    )


def written_as(
    lineage: Lineage, model: ViT, *, settings: Mapping[str, Any] | None = None
) -> tuple[dict[str, Tensor], list[str]]:
    """A model's weights as another project's arrays.

    Args:
        lineage: the format.
        model: what to write.
        settings: what will stand beside the arrays and be read with them.

    Returns:
        The arrays, and a sentence for each number that the project computes otherwise.

    Raises:
        UserError: the format has no place for what the model is made of.
    """
    known = {"attention": ("global",), "position": lineage.positions, "position_injection": ("stem",)}
    for name, values in known.items():
        if (own := getattr(model.config, name)) not in values:
            raise UserError(f"the format {lineage.name} cannot say that {name} is {own}")
    state = {name: tensor.detach().cpu() for name, tensor in lineage.prepared(model).items()}
    rows = lineage.rows(model.config)
    notes = _with_zero_biases(state, [row.ours for row in rows])
    arrays, lost = to_theirs(rows, state)
    # a bias of zero is the same as none
    lost = [name for name in lost if not (name.endswith(".bias") and name in state and not state[name].any())]
    if lost:
        raise UserError(f"the format {lineage.name} has no place for {', '.join(lost[:5])}, or needs it")
    arrays = lineage.finished(arrays, model.config)
    if not lineage.recognises(lineage.tidied(arrays)):
        raise UserError(f"the format {lineage.name} cannot hold this model: it would be taken for another format")
    try:
        understood = lineage.config(lineage.tidied(arrays), {**_heads(model.config.num_heads), **(settings or {})})
    except (KeyError, ValueError) as error:
        raise UserError(
            f"the format {lineage.name} cannot hold this model: it would not be read again: {error}"
        ) from None
    for name in STRUCTURE:
        if name in ("qkv_bias", "patch_bias") or (name == "image_hw" and model.config.position == "rope"):
            continue  # biases of zero were added or left out; rotary positions fit any size, and no array tells it
        own, theirs = getattr(model.config, name), getattr(understood, name)
        if own != theirs and not (name == "num_classes" and not any(re.match(HEADS, key) for key in arrays)):
            raise UserError(f"the format {lineage.name} cannot say that {name} is {own}: it would be read as {theirs}")
    for name in ("gelu", "norm_eps"):
        own, theirs = getattr(model.config, name), getattr(understood, name)
        if own != theirs:
            notes.append(f"{lineage.name} computes with {name} {theirs}, this model with {name} {own}")
    return arrays, [*notes, *lineage.caveats(model.config)]


def _with_zero_biases(state: dict[str, Tensor], wanted: list[str]) -> list[str]:
    """Adds biases of zero where a format needs some that the model has not; says so."""
    absent = [name for name in wanted if name not in state and name.endswith(".bias") and f"{name[:-4]}weight" in state]
    for name in absent:
        weight = state[f"{name[:-4]}weight"]
        state[name] = weight.new_zeros(len(weight))
    return [f"{len(absent)} biases of zero were added, which the format has and the model has not"] if absent else []


def _heads(count: int | None) -> dict[str, Any]:
    """A number of attention heads as the projects' settings call it."""
    return {} if count is None else {"num_heads": count, "num_attention_heads": count}


def _dtypes(state: Mapping[str, Tensor]) -> list[str]:
    kinds = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in state.values()} - {"float32"})
    return [f"{', '.join(kinds)} turned into float32"] if kinds else []


def _unmatched(missing: Iterable[str], unexpected: Iterable[str]) -> str:
    parts = []
    for label, names in (("missing", list(missing)), ("unexpected", list(unexpected))):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            parts.append(f"{label}: {', '.join(names[:3])}{more}")
    return "; ".join(parts)
