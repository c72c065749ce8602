"""Checkpoints of other projects: detected by their content, loaded into Vitral's model, and written back."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitral.errors import UserError
from vitral.models import blank_model, give_buffers
from vitral.vit import ViT
from vitral.vit_config import ViTConfig
from vitral.weights.config_keys import unknown_keys
from vitral.weights.lineages.dino import DINOV2, DINOV3
from vitral.weights.lineages.google import BIG_VISION, GOOGLE, GOOGLE_LINEN
from vitral.weights.lineages.lineage import Lineage
from vitral.weights.lineages.official import FACEBOOK_DINOV2, FACEBOOK_DINOV3, MAE, MOCO_V3
from vitral.weights.lineages.open_clip import OPEN_CLIP
from vitral.weights.lineages.timm import TIMM
from vitral.weights.lineages.torchvision import TORCHVISION
from vitral.weights.lineages.towers import CLIP, SIGLIP
from vitral.weights.lineages.transformers import TRANSFORMERS
from vitral.weights.mapping import from_upstream, to_upstream
from vitral.weights.tensor_file import read_tensors
from vitral.weights.upstream_card import upstream_card

__all__ = ["LINEAGES", "LoadReport", "check_storable", "detect_lineage", "load_upstream", "upstream_state_dict"]

LINEAGES: dict[str, Lineage] = {
    lineage.name: lineage
    for lineage in (
        *(GOOGLE, GOOGLE_LINEN, BIG_VISION),
        *(FACEBOOK_DINOV2, FACEBOOK_DINOV3, MAE, MOCO_V3, TIMM, TORCHVISION),  # all but the last have timm's names
        *(TRANSFORMERS, DINOV2, DINOV3, SIGLIP, CLIP, OPEN_CLIP),
    )
}
"""Formats by name, in the order in which they are looked for."""

STRUCTURE = (
    *("image_hw", "patch_hw", "channels", "stem_stages", "width", "depth", "num_heads", "mlp_dim", "num_classes"),
    *("pool", "num_registers", "position", "position_injection", "attention", "qk_norm", "mlp", "representation_size"),
    *("distillation", "qkv_bias", "patch_bias", "pre_norm", "pooled_norm", "final_norm"),
)
"""Fields of the architecture that must be the same when a written checkpoint is read back."""
HEAD_NAMES = (
    r"head[/.](weight|bias|kernel)$|head_dist\.|heads\.head\.|(cls_|distillation_)?classifier\.|visual_projection\.|"
    r"(visual\.)?proj$"
)
"""Regular expression for the names of the head's tensors in all formats."""


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """Result of loading an upstream checkpoint."""

    lineage: str
    """Format of the checkpoint."""
    matched: int
    """Number of the model's tensors that were loaded."""
    missing: tuple[str, ...] = ()
    """Upstream names that the checkpoint lacks; those tensors are freshly initialised."""
    unexpected: tuple[str, ...] = ()
    """Names in the checkpoint that the model does not have."""
    notes: tuple[str, ...] = field(default=())
    """Everything else that was not simply copied, one sentence each."""


def load_upstream(
    path: Path, *, upstream_config: Mapping[str, Any] | None = None, allow_missing: bool = False, **overrides: Any
) -> tuple[ViT, LoadReport]:
    """Loads another project's checkpoint as a model in float32 and evaluation mode, with its card.

    A checkpoint without a head gives a model with a zero head; the report notes it.

    Args:
        path: a NumPy archive, a safetensors file or a PyTorch file.
        upstream_config: the upstream `config.json` and similar files, if there are any.
        allow_missing: whether to accept missing and unexpected tensors.
        overrides: fields of the architecture that the file does not store, or that should differ.

    Raises:
        UserError: the format is unknown, or tensors are missing, unexpected, of wrong shape, or not finite.
        OSError: the file cannot be read.
    """
    lineage, tensors = detect_lineage(read_tensors(path), path)
    upstream_config = {**(upstream_config or {}), **_num_heads(overrides.get("num_heads"))}
    try:
        config = replace(lineage.infer_config(tensors, upstream_config), **overrides)
        state, missing, unexpected = from_upstream(lineage.mapping(config), lineage.prepare(tensors, config))
    except (KeyError, IndexError, ValueError, TypeError, RuntimeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UserError(f"{path} looks like {lineage.name}, but cannot be read: {reason}") from None
    notes = _assumptions(lineage, config, tensors, upstream_config)
    model = blank_model(config)
    assert isinstance(model, ViT)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    notes += [*_conversions(state), *lineage.caveats(config)]
    ignored = [name for name in unexpected if re.search(lineage.ignore, name)]
    unexpected = [name for name in unexpected if name not in ignored]
    if ignored:
        notes.append(f"ignored, because the model does not use them: {_modules(ignored)}")
    if not any(name.startswith("head.") for name in state):
        missing = [name for name in missing if not re.match(HEAD_NAMES, name)]
        notes.append(f"the file has no head: the model gets a zero head for {config.num_classes} classes")
        state |= {name: torch.zeros(shapes[name]) for name in shapes if name.startswith("head.")}
    if (missing or unexpected) and not allow_missing:
        raise UserError(f"{path}: {_mismatch(missing, unexpected)}; load it anyway with --allow-missing")
    for name, tensor in state.items():
        if shapes[name] != tuple(tensor.shape):
            raise UserError(f"{path}: {name} has shape {tuple(tensor.shape)}, but the model expects {shapes[name]}")
        if not torch.isfinite(tensor.sum(dtype=torch.float32)):
            raise UserError(f"{path}: {name} contains NaN or infinity")
    if missing:
        model.to_empty(device="cpu").init_weights()
    else:
        give_buffers(model, torch.device("cpu"))
    floats = {name: tensor.float().contiguous() for name, tensor in state.items()}
    model.load_state_dict(floats, strict=False, assign=not missing)
    model.card, card_notes = upstream_card(config, lineage, upstream_config, origin=path.name)
    report = LoadReport(
        lineage=lineage.name,
        matched=len(state),
        missing=tuple(missing),
        unexpected=tuple(unexpected),
        notes=(*notes, *card_notes),
    )
    return model.eval(), report


def detect_lineage(tensors: dict[str, Tensor], path: Path) -> tuple[Lineage, dict[str, Tensor]]:
    """Format of a file, and its tensors under the names of the format's mapping.

    Raises:
        UserError: the format is unknown.
    """
    for lineage in LINEAGES.values():
        canonical = lineage.canonicalise(tensors)
        if lineage.matches(canonical):
            return lineage, canonical
    examples = ", ".join(sorted(tensors)[:3]) or "nothing"
    raise UserError(
        f"{path} has an unknown format: it contains {len(tensors)} tensors such as {examples}; "
        f"supported formats are {', '.join(LINEAGES)}"
    )


def upstream_state_dict(
    lineage: Lineage, model: ViT, *, upstream_config: Mapping[str, Any] | None = None
) -> tuple[dict[str, Tensor], list[str]]:
    """State dict of a model in another project's format.

    Args:
        lineage: the format.
        model: the model to convert.
        upstream_config: the `config.json` that will be written beside it, if any.

    Returns:
        The tensors, and one sentence for each number that the other project computes differently.

    Raises:
        UserError: the format cannot store the model.
    """
    check_storable(lineage, model.config)
    state = {name: tensor.detach().cpu() for name, tensor in lineage.state_dict(model).items()}
    mapping = lineage.mapping(model.config)
    notes = _add_zero_biases(state, [entry.name for entry in mapping])
    tensors, missing, unexpected = to_upstream(mapping, state)
    # leaving out a zero bias changes nothing
    unexpected = [name for name in unexpected if not name.endswith(".bias") or state[name].any()]
    if unexpected:
        raise UserError(f"the format {lineage.name} cannot store {', '.join(unexpected[:5])}")
    if missing:
        raise UserError(f"the format {lineage.name} requires {', '.join(missing[:5])}, which this model does not have")
    tensors = lineage.finalise(tensors, model.config)
    canonical = lineage.canonicalise(tensors)
    if not lineage.matches(canonical):
        raise UserError(f"the format {lineage.name} cannot store this model: it would be detected as another format")
    try:
        config = lineage.infer_config(canonical, {**_num_heads(model.config.num_heads), **(upstream_config or {})})
    except (KeyError, ValueError) as error:
        raise UserError(
            f"the format {lineage.name} cannot store this model: it could not be read back: {error}"
        ) from None
    for name in STRUCTURE:
        if name in ("qkv_bias", "patch_bias") or (name == "image_hw" and model.config.position == "rope"):
            continue  # zero biases may be added or left out; rotary positions fit any size, which is not stored
        before, after = getattr(model.config, name), getattr(config, name)
        if before != after and not (name == "num_classes" and not any(re.match(HEAD_NAMES, key) for key in tensors)):
            raise UserError(f"the format {lineage.name} cannot store {name} {before}: it would be read back as {after}")
    for name in ("gelu", "norm_eps"):
        before, after = getattr(model.config, name), getattr(config, name)
        if before != after:
            notes.append(f"{lineage.name} uses {name} {after}, this model uses {name} {before}")
    if config.position_resample != model.config.position_resample and model.config.position == "learned_1d":
        height, width = model.config.image_hw
        notes.append(
            f"{lineage.name} resamples positions to other image sizes in its own way ({config.position_resample}, not "
            f"{model.config.position_resample}): at {height}x{width} the outputs are equal"
        )
    return tensors, [*notes, *lineage.caveats(model.config)]


def check_storable(lineage: Lineage, config: ViTConfig) -> None:
    """Raises UserError for the first part of the architecture that the format cannot store."""
    stores: dict[str, tuple[Any, ...]] = {
        "attention": ("global",),
        "position": lineage.positions,
        "position_injection": ("stem",),
        "pool": ("cls", "gap", "map"),
        "final_norm": (True,),
        **lineage.stores,
    }
    for name, values in stores.items():
        if (value := getattr(config, name)) not in values:
            others = " or ".join(map(str, values))
            raise UserError(f"the format {lineage.name} does not support {name} {value}: it stores {name} {others}")


def _add_zero_biases(state: dict[str, Tensor], required: list[str]) -> list[str]:
    """Adds zero biases to `state` where the format requires a bias that the model lacks; returns a note on it."""
    absent = [
        name for name in required if name not in state and name.endswith(".bias") and f"{name[:-4]}weight" in state
    ]
    for name in absent:
        weight = state[f"{name[:-4]}weight"]
        state[name] = weight.new_zeros(len(weight))
    return [f"added {len(absent)} zero biases that the format requires"] if absent else []


def _assumptions(
    lineage: Lineage, config: ViTConfig, tensors: Mapping[str, Tensor], upstream_config: Mapping[str, Any]
) -> list[str]:
    """Notes on what the file and its configuration leave open."""
    notes = []
    if lineage.num_heads(tensors, upstream_config) is None:
        notes.append(
            f"the file does not store the number of attention heads: {config.num_heads} assumed, as usual for width "
            f"{config.width}; --num-heads sets another"
        )
    notes += lineage.assumptions(config, tensors, upstream_config)
    if unknown := unknown_keys(lineage, upstream_config):
        notes.append(f"ignored, because Vitral does not know these keys of its configuration: {', '.join(unknown)}")
    return notes


def _num_heads(count: int | None) -> dict[str, Any]:
    """The number of attention heads under the keys that upstream configurations use."""
    return {} if count is None else {"num_heads": count, "num_attention_heads": count}


def _conversions(state: Mapping[str, Tensor]) -> list[str]:
    dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in state.values()} - {"float32"})
    return [f"converted {', '.join(dtypes)} to float32"] if dtypes else []


def _modules(names: Iterable[str]) -> str:
    """The outermost modules with these tensors, each with their number if it has several."""
    counts = Counter(name.partition(".")[0] for name in names)
    return ", ".join(module if count == 1 else f"{module} ({count} tensors)" for module, count in counts.items())


def _mismatch(missing: Iterable[str], unexpected: Iterable[str]) -> str:
    parts = []
    for label, names in (("missing", list(missing)), ("unexpected", list(unexpected))):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            parts.append(f"{label}: {', '.join(names[:3])}{more}")
    return "; ".join(parts)
