"""Vitral's models as checkpoints of other projects."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vitral.errors import UserError
from vitral.models import blank_model, give_buffers
from vitral.vit import ViT
from vitral.vit_config import ViTConfig
from vitral.weights.lineages.lineage import HEAD_NAMES, Lineage, stated_heads
from vitral.weights.lineages.registry import LINEAGES
from vitral.weights.lineages.transformers import TRANSFORMERS
from vitral.weights.mapping import to_upstream
from vitral.weights.storable import NotStorable, fold_layer_scale, not_supported, read_back_as, refusal

__all__ = ["check_storable", "formats_for", "storable", "upstream_state_dict", "written_headless"]

STRUCTURE = (
    *("image_hw", "patch_hw", "channels", "stem_stages", "width", "depth", "num_heads", "mlp_dim", "num_classes"),
    *("pool", "num_registers", "position", "position_injection", "attention", "qk_norm", "mlp", "representation_size"),
    *("distillation", "qkv_bias", "patch_bias", "pre_norm", "pooled_norm", "final_norm"),
)
"""Fields of the architecture that must be the same when a written checkpoint is read back."""
COMPUTED = ("rope", "sincos_2d", "sincos_2d_mae")
"""Positions that are computed from the grid."""


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
    model, notes = storable(lineage, model)
    check_storable(lineage, model.config)
    state = {name: tensor.detach().cpu() for name, tensor in lineage.state_dict(model).items()}
    mapping = lineage.mapping(model.config)
    notes += _add_zero_biases(state, [entry.name for entry in mapping])
    tensors, missing, unexpected = to_upstream(mapping, state)
    # leaving out a zero bias changes nothing
    unexpected = [name for name in unexpected if not name.endswith(".bias") or state[name].any()]
    if unexpected or missing:
        raise refusal(lineage.name, model.config, unexpected=unexpected, missing=missing)
    if lineage is TRANSFORMERS and written_headless(model):
        tensors = {name: tensor for name, tensor in tensors.items() if not re.match(HEAD_NAMES, name)}
    tensors = lineage.finalise(tensors, model.config)
    canonical = lineage.canonicalise(tensors)
    if not lineage.matches(canonical):
        other = next((each.name for each in LINEAGES.values() if each.matches(canonical)), None)
        advice = f": these are tensors of the format {other}, so convert with --to {other}" if other else ""
        raise NotStorable(
            f"the format {lineage.name} cannot store this model, as it would be detected as another format{advice}"
        )
    try:
        config = lineage.infer_config(canonical, {**stated_heads(model.config.num_heads), **(upstream_config or {})})
    except UserError as error:
        raise NotStorable(
            f"the format {lineage.name} cannot store this model: it could not be read back: {error}"
        ) from None
    for name in STRUCTURE:
        if name in ("qkv_bias", "patch_bias") or (name == "image_hw" and model.config.position in COMPUTED):
            continue  # zero biases may be added or left out; computed positions fit any size, which is not stored
        before, after = getattr(model.config, name), getattr(config, name)
        if before != after and not (name == "num_classes" and not any(re.match(HEAD_NAMES, key) for key in tensors)):
            if model.config.mlp != config.mlp:  # a gate changes the width of the MLP too
                raise not_supported(lineage.name, "mlp", model.config.mlp)
            raise read_back_as(lineage.name, name, before, after)
    return tensors, [*notes, *_differences(lineage, model, config, tensors), *lineage.caveats(model.config)]


def _differences(lineage: Lineage, model: ViT, config: ViTConfig, tensors: Mapping[str, Tensor]) -> list[str]:
    """Notes on what the model loses or computes otherwise when it is read back with `config`."""
    notes = []
    if model.head.weight.any() and not any(re.match(HEAD_NAMES, name) for name in tensors):
        notes.append(f"the head is left out, because {lineage.name} stores the encoder alone")
    if not model.head.weight.any():
        untrained = "the head is zero, so it was never trained"
        if any(re.match(HEAD_NAMES, name) for name in tensors):
            notes.append(f"{untrained}: {lineage.name} gets it as it is")
        elif lineage is TRANSFORMERS:
            notes.append(f"{untrained}: the encoder was written, without it")
    for name in ("gelu", "norm_eps", "stem_numerics") if config.mlp == "gelu" else ("norm_eps",):
        before, after = getattr(model.config, name), getattr(config, name)
        if before != after:
            notes.append(f"{lineage.name} uses {name} {after}, this model uses {name} {before}")
    if config.rope_periods != model.config.rope_periods:
        notes.append(
            f"{lineage.name} computes the periods of rotary positions exactly, this model has the rounded ones of "
            "DINOv3's official files: outputs differ by up to about 4e-4 of their norm"
        )
    if config.position_resample != model.config.position_resample and model.config.position == "learned_1d":
        height, width = model.config.image_hw
        notes.append(
            f"at other image sizes than {height}x{width} outputs differ, because {lineage.name} interpolates positions "
            f"in its own way ({config.position_resample}, this model: {model.config.position_resample})"
        )
    return notes


def formats_for(model: ViT) -> list[str]:
    """Names of the formats that can store a model with its head, found by trying each with the first block alone."""
    first = blank_model(replace(model.config, depth=1))
    shapes = {name: tensor.shape for name, tensor in first.state_dict().items()}
    state = {name: tensor for name, tensor in model.state_dict().items() if name in shapes}
    if any(state[name].shape != shape for name, shape in shapes.items()):
        return ["vitral"]
    give_buffers(first, torch.device("cpu"))
    first.load_state_dict(state, assign=True)
    assert isinstance(first, ViT)
    names = ["vitral"]
    for lineage in LINEAGES.values():
        try:
            tensors, _ = upstream_state_dict(lineage, first)
        except UserError:
            continue
        if any(re.match(HEAD_NAMES, name) for name in tensors) or not first.head.weight.any():
            names.append(lineage.name)
    return names


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
            raise not_supported(lineage.name, name, value)


def written_headless(model: ViT) -> bool:
    """Whether the format `transformers` gets the encoder alone: its head is zero, so it was never trained.

    A register is stored as DeiT's distillation token, which is one only beside DeiT's classifier.
    """
    return not model.head.weight.any() and not model.config.num_registers


def storable(lineage: Lineage, model: ViT) -> tuple[ViT, list[str]]:
    """The model in a form that the format can store: without LayerScale, if the format has none.

    Returns:
        The model itself or an equal one, and a note for each change.
    """
    names = {entry.name for entry in lineage.mapping(model.config)}
    # the names of DINOv2's LayerScale are known to the format of transformers' ViT, whose classes have none
    if model.config.layer_scale is None or ("blocks.0.ls1.gamma" in names and lineage is not TRANSFORMERS):
        return model, []
    note = f"LayerScale is folded into attn.proj and mlp.fc2, as {lineage.name} has none: the outputs stay the same"
    return fold_layer_scale(model), [note]


def _add_zero_biases(state: dict[str, Tensor], required: list[str]) -> list[str]:
    """Adds zero biases to `state` where the format requires a bias that the model lacks; returns a note on it."""
    absent = [
        name for name in required if name not in state and name.endswith(".bias") and f"{name[:-4]}weight" in state
    ]
    for name in absent:
        weight = state[f"{name[:-4]}weight"]
        state[name] = weight.new_zeros(len(weight))
    if not absent:
        return []
    biases = "a zero bias" if len(absent) == 1 else f"{len(absent)} zero biases"
    return [f"added {biases}, which the format requires and which change nothing"]
